"""The composition root: the only place that chooses adapters and puts services, workers and threads together."""

from fiapx.bootstrap.embedded import EmbeddedServer, embedded

__all__ = ["EmbeddedServer", "embedded"]
