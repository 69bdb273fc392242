"""The vocabulary every layer shares: options, jobs, events, errors and ports. Imports pydantic at most."""
