"""Servers that a machine may lack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scripts.servers.process import ServerMissing


@contextmanager
def required() -> Iterator[None]:
    """Skip where a server's program is not installed; fail there if ``CI`` is ``true``, where all of them must be."""
    try:
        yield
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
