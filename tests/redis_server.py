"""A Redis that the tests of one process share; what a test breaks, it mends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.servers.redis import PrivateRedis
from tests.servers import required


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with required():
        server = PrivateRedis(tmp_path_factory.mktemp("redis"))
    with server:
        yield server


@pytest.fixture
def redis(redis_server: PrivateRedis) -> Iterator[PrivateRedis]:
    """Empty, and running again afterwards."""
    redis_server.flush()
    yield redis_server
    redis_server.resume()
