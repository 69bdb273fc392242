"""Implementations of the ports in `fiapx.core.ports`. Chosen by `fiapx.bootstrap` alone."""
