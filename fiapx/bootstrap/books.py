"""What an operator's command needs of a service's books: its database and its storage, wherever they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from fiapx.adapters.cache import MemoryCache
from fiapx.bootstrap.databases import service_database
from fiapx.bootstrap.servers import Servers
from fiapx.notify.history import History
from fiapx.server.processing.audit import Audit
from fiapx.server.processing.store import Store
from fiapx.server.processing.transitions import Transitions
from fiapx.settings import Settings


@contextmanager
def auditing(settings: Settings, *, quick: bool) -> Iterator[Audit]:
    """An audit of the configured service, or else of the data of `fiapx up`. Raises UsageError, Unavailable."""
    with Servers(settings) as servers, service_database(settings, "processing") as engine:
        store = Store(Transitions(engine, Event(), "", MemoryCache()))
        swept = settings.sweep_age + 2 * settings.sweep_interval  # the sweeper had its chance
        yield Audit(store, engine, servers.storage, servers.partials, orphan_age=swept, quick=quick)


@contextmanager
def mail_history(settings: Settings) -> Iterator[History]:
    """The mails of the configured service, or else of `fiapx up`. Raises UsageError, Unavailable."""
    with service_database(settings, "notify") as engine:
        yield History(engine)
