"""Uploads that survive interruptions: they arrive in as many requests as it takes, and become videos."""
