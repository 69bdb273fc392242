"""A PostgreSQL that the tests of one process share, and databases of either kind for tests of stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from fiapx.adapters.db import Service, migrate, open_database, sqlite_url
from scripts.servers.postgres import PrivatePostgres
from tests.servers import required

Databases = Callable[[Service], Engine]
"""Opens the empty database of a service, at its newest version."""


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    with required():
        server = PrivatePostgres(tmp_path_factory.mktemp("postgres"))
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Databases]:
    """On a file of the test's own, and on the shared server, where each test begins with empty tables."""
    with ExitStack() as stack:

        def open_(service: Service) -> Engine:
            if request.param == "sqlite":
                engine = open_database(sqlite_url(tmp_path / f"{service}.db"))
            else:
                server: PrivatePostgres = request.getfixturevalue("postgres_server")
                engine = open_database(server.url(service), pool_size=20)
            stack.callback(engine.dispose)
            migrate(engine, service)
            if request.param == "postgresql":
                empty(engine)
            return engine

        yield open_


def empty(engine: Engine) -> None:
    """Forget all rows of a service's database."""
    tables = [name for name in inspect(engine).get_table_names() if name != "alembic_version"]
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE"))
