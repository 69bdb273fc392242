"""Accounts from the operator's shell: auth's database itself, whether a server runs or not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from fiapx.adapters.cache_redis import RedisCache
from fiapx.bootstrap.databases import service_database
from fiapx.bootstrap.parts import make_administration
from fiapx.core.errors import Unavailable
from fiapx.server.auth.administration import Administration
from fiapx.server.sessions import EndedSessions
from fiapx.settings import Settings


@contextmanager
def administering(settings: Settings) -> Iterator[Administration]:
    """Of the PostgreSQL that is configured, or else of the data folder of `fiapx up`.

    Where services remember sessions in Redis, it is told of those that end. What is changed stays changed where that
    fails, and Unavailable says how long they may be believed in. Raises UsageError where there is no such database.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(service_database(settings, "auth"))
        if settings.auth_database_url is None:
            yield make_administration(engine)
            return
        yield make_administration(engine, _Teller(settings, stack).tell)


class _Teller:
    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._ttl = settings.cache_ttl_sessions
        self._ended: EndedSessions | None = None
        if settings.redis_url is not None:
            cache = RedisCache(settings.redis_url.get_secret_value())
            stack.callback(cache.close)
            self._ended = EndedSessions(cache, settings.access_ttl, self._ttl)

    def tell(self, session_ids: Collection[str]) -> None:
        if session_ids and (self._ended is None or not self._ended.tell(session_ids)):
            raise Unavailable(
                "It is done, but the services could not be told at once.",
                hint=f"Within {self._ttl:g} s they know; FIAPX_REDIS_URL names the Redis that they ask.",
            )
