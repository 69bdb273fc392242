"""A Redis that the tests of one process share; what a test breaks, it mends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from scripts.servers.process import ServerMissing
from scripts.servers.redis import PrivateRedis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    try:
        server = PrivateRedis(tmp_path_factory.mktemp("redis"))
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def redis(redis_server: PrivateRedis) -> Iterator[PrivateRedis]:
    """Empty, and running again afterwards."""
    redis_server.flush()
    yield redis_server
    redis_server.resume()
