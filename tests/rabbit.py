"""A RabbitMQ that the tests of one process share; what a test breaks, it mends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.servers.rabbitmq import PrivateRabbit
from tests.servers import required


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    with required():
        server = PrivateRabbit(tmp_path_factory.mktemp("rabbit") / "data")
    with server:
        yield server
