"""Sessions in a shared cache: ends count at once, whatever the cache does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jwt
import pytest
from sqlalchemy import Engine, delete, update

from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.cache_redis import RedisCache
from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.core.errors import InvalidCredentials, InvalidToken, NotFound, Unavailable
from fiapx.core.ports import Cache
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService, TokenPair
from fiapx.server.auth.store import AuthStore
from fiapx.server.auth.tables import refresh_tokens, sessions
from fiapx.server.identity import Verifier
from fiapx.server.ratelimit import AuthLimiter
from fiapx.server.sessions import CachedSessions, EndedSessions
from scripts.servers.redis import PrivateRedis
from tests.processing_kit import eventually

EMAIL, PASSWORD, HOME = "ana@example.com", "correct horse battery", "192.0.2.1"


class Asked:
    """A source of truth that counts questions."""

    def __init__(self) -> None:
        self.good = {"s"}
        self.times = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def active(self, session_id: str, _token: str) -> bool:
        self.times += 1
        answer = session_id in self.good
        self.meanwhile()
        return answer


class Deaf(MemoryCache):
    """A cache that can be away."""

    away = False

    def get(self, key: str) -> bytes | None:
        return None if self.away else super().get(key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        if not self.away:
            super().set(key, value, ttl)


def test_a_session_is_asked_for_once() -> None:
    source = Asked()
    sessions = CachedSessions(MemoryCache(), source)
    assert all(sessions.active("s", "token") for _ in range(100))
    assert not any(sessions.active("other", "token") for _ in range(100))
    assert source.times == 2


def test_an_end_is_known_at_once_in_all_processes() -> None:
    cache, source = MemoryCache(), Asked()
    here, there = CachedSessions(cache, source), CachedSessions(cache, source)
    assert here.active("s", "token")
    EndedSessions(cache, 900).tell(["s"])
    assert not here.active("s", "token")
    assert not there.active("s", "token")
    assert source.times == 1


def test_an_end_outruns_an_answer_that_is_under_way() -> None:
    cache, source = MemoryCache(), Asked()
    sessions = CachedSessions(cache, source)
    source.meanwhile = lambda: EndedSessions(cache, 900).tell(["s"])
    sessions.active("s", "token")
    assert not sessions.active("s", "token")


def test_good_answers_do_not_live_long() -> None:
    now = [0.0]
    source = Asked()
    sessions = CachedSessions(MemoryCache(clock=lambda: now[0]), source, ttl=60)
    assert sessions.active("s", "token")
    source.good.clear()
    now[0] = 61
    assert not sessions.active("s", "token")


def test_what_could_not_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiapx.server.sessions._RETRY", 0.01)
    cache = Deaf()
    sessions, ended = CachedSessions(cache, Asked()), EndedSessions(cache, 900)
    assert sessions.active("s", "token")
    cache.away = True
    ended.tell(["s"])
    stop = threading.Event()
    thread = threading.Thread(target=ended.run, args=(stop,))
    thread.start()
    cache.away = False
    eventually(lambda: not sessions.active("s", "token"))
    stop.set()
    thread.join()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "auth.db"))
    migrate(engine, "auth")
    yield engine
    engine.dispose()


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    shared = RedisCache(request.getfixturevalue("redis").url)
    yield shared
    shared.close()


def build(engine: Engine, cache: Cache, grace: float = 10) -> tuple[AuthService, Verifier]:
    store = AuthStore(engine)
    policy = AuthPolicy(bcrypt_rounds=4, refresh_grace=grace)
    ended = EndedSessions(cache, policy.access_ttl)
    limiter = AuthLimiter("10/minute", "60/minute")
    auth = AuthService(store, SigningKeys(store, "secret"), policy, limiter, on_ended=ended.tell)
    cached = CachedSessions(cache, auth)
    auth.on_opened = partial(cached.active, token="")
    return auth, Verifier(auth.jwks, cached)


def refused(verifier: Verifier, tokens: TokenPair) -> bool:
    try:
        verifier.verify(tokens.access_token)
    except InvalidToken:
        return True
    return False


def test_every_end_of_a_session_takes_effect_at_once(engine: Engine, cache: Cache) -> None:
    auth, verifier = build(engine, cache, grace=0)
    auth.register(EMAIL, PASSWORD, HOME)
    left, replayed, other, last = (auth.login(EMAIL, PASSWORD, HOME) for _ in range(4))
    identities = [verifier.verify(tokens.access_token) for tokens in (left, replayed, other, last)]
    auth.logout(identities[0])
    assert refused(verifier, left)
    auth.refresh(replayed.refresh_token)
    with engine.begin() as connection:
        connection.execute(update(refresh_tokens).values(used_ms=refresh_tokens.c.used_ms - 1000))
    with pytest.raises(InvalidToken):
        auth.refresh(replayed.refresh_token)
    assert refused(verifier, replayed)
    assert not refused(verifier, other)
    auth.change_password(identities[3], PASSWORD, PASSWORD + "!", HOME)
    assert (refused(verifier, other), refused(verifier, last)) == (True, False)
    auth.delete_account(identities[3], PASSWORD + "!", HOME)
    assert refused(verifier, last)


def test_a_new_session_is_known_before_anybody_asks(engine: Engine, cache: Cache) -> None:
    auth, _ = build(engine, cache)
    auth.register(EMAIL, PASSWORD, HOME)
    source = Asked()
    elsewhere = Verifier(auth.jwks, CachedSessions(cache, source))
    tokens = auth.login(EMAIL, PASSWORD, HOME)
    identity = elsewhere.verify(tokens.access_token)
    assert source.times == 0
    auth.logout(identity)
    auth.on_opened(identity.session_id)  # late
    assert refused(elsewhere, tokens)
    assert source.times == 0


def test_a_session_whose_end_came_first_is_not_told_as_good(engine: Engine, cache: Cache) -> None:
    """Its log-in has been committed, but not told, when somebody ends it and the cache knows of nothing."""
    auth, verifier = build(engine, cache)
    auth.register(EMAIL, PASSWORD, HOME)
    told, auth.on_opened = auth.on_opened, lambda _session_id: None
    tokens = auth.login(EMAIL, PASSWORD, HOME)
    with engine.begin() as connection:
        connection.execute(delete(refresh_tokens))
        connection.execute(delete(sessions))
    told(jwt.decode(tokens.access_token, options={"verify_signature": False})["sid"])
    assert refused(verifier, tokens)


def test_a_log_in_does_not_fail_with_the_cache_that_is_told(engine: Engine) -> None:
    auth, verifier = build(engine, MemoryCache())
    auth.register(EMAIL, PASSWORD, HOME)

    def away(_session_id: str) -> None:
        raise Unavailable

    auth.on_opened = away
    assert not refused(verifier, auth.login(EMAIL, PASSWORD, HOME))


def test_a_disabled_account_is_out_at_once_and_stays_out(engine: Engine, cache: Cache) -> None:
    auth, verifier = build(engine, cache)
    auth.register(EMAIL, PASSWORD, HOME)
    tokens = auth.login(EMAIL, PASSWORD, HOME)
    assert not refused(verifier, tokens)
    ended = EndedSessions(cache, 900)
    administration = Administration(SqlDirectory(engine), on_ended=ended.tell)
    administration.disable(administration.found("Ana@example.com").id, "root")
    assert refused(verifier, tokens)
    with pytest.raises(InvalidCredentials):
        auth.login(EMAIL, PASSWORD, HOME)
    with pytest.raises(NotFound):
        administration.found("bob@example.com")


def test_revoked_tokens_stay_revoked_when_the_cache_is_flushed(engine: Engine, redis: PrivateRedis) -> None:
    cache = RedisCache(redis.url)
    auth, verifier = build(engine, cache)
    auth.register(EMAIL, PASSWORD, HOME)
    ended, good = auth.login(EMAIL, PASSWORD, HOME), auth.login(EMAIL, PASSWORD, HOME)
    auth.logout(verifier.verify(ended.access_token))
    redis.flush()
    assert (refused(verifier, ended), refused(verifier, good)) == (True, False)
    cache.close()
