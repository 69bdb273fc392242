"""What an operator's command needs of processing's books: its database and its storage, wherever they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import open_database, pending, sqlite_url
from fiapx.bootstrap.servers import Servers
from fiapx.core.errors import UsageError
from fiapx.server.processing.audit import Audit
from fiapx.server.processing.store import Store
from fiapx.server.processing.transitions import Transitions
from fiapx.settings import Settings


@contextmanager
def auditing(settings: Settings, *, quick: bool) -> Iterator[Audit]:
    """An audit of the configured service, or else of the data of `fiapx up`. Raises UsageError, Unavailable."""
    with Servers(settings) as servers:
        engine = open_database(_url(settings))
        try:
            if state := pending(engine, "processing"):
                raise UsageError(f"the processing database {state}", hint="Run `fiapx db upgrade` first.")
            store = Store(Transitions(engine, Event(), "", MemoryCache()))
            yield Audit(store, engine, servers.storage, orphan_age=settings.sweep_age, quick=quick)
        finally:
            engine.dispose()


def _url(settings: Settings) -> str:
    if settings.processing_database_url is not None:
        return settings.processing_database_url.get_secret_value()
    path = settings.home / "processing.db"
    if not path.exists():
        raise UsageError(
            f"there is no data in {str(settings.home)!r}",
            hint="Set FIAPX_HOME, or FIAPX_PROCESSING_DATABASE_URL for a service on PostgreSQL.",
        )
    return sqlite_url(path)
