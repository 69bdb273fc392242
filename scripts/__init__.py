"""Commands for work on this repository."""
