"""A service's database as an operator's command opens it, whether a server runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from fiapx.adapters.db import Service, open_database, pending, sqlite_url
from fiapx.core.errors import UsageError
from fiapx.settings import Settings


@contextmanager
def service_database(settings: Settings, service: Service) -> Iterator[Engine]:
    """The PostgreSQL that is configured, or else the file of `fiapx up`.

    Raises UsageError where there is none with this version's schema, Unavailable where it does not answer.
    """
    engine = open_database(_url(settings, service))
    try:
        if state := pending(engine, service):
            hint = "Run `fiapx db upgrade` first, or start the server."
            raise UsageError(f"the {service} database {state}", hint=hint)
        yield engine
    finally:
        engine.dispose()


def _url(settings: Settings, service: Service) -> str:
    url = getattr(settings, f"{service}_database_url")
    if url is not None:
        return str(url.get_secret_value())
    file = settings.home / f"{service}.db"
    if not file.exists():
        raise UsageError(
            f"there is no data in {str(settings.home)!r}",
            hint=f"Set FIAPX_HOME, or FIAPX_{service.upper()}_DATABASE_URL for a service on PostgreSQL.",
        )
    return sqlite_url(file)
