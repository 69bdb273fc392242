"""Tells people how their jobs ended."""
