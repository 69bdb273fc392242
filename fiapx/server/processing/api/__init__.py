"""Processing over HTTP."""
