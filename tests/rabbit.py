"""A RabbitMQ that the tests of one process share; what a test breaks, it mends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from scripts.servers.process import ServerMissing
from scripts.servers.rabbitmq import PrivateRabbit


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    try:
        server = PrivateRabbit(tmp_path_factory.mktemp("rabbit") / "data")
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with server:
        yield server
