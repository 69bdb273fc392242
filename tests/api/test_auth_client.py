"""A service that verifies tokens with an auth elsewhere, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.types import Receive, Scope, Send

from fiapx.adapters.auth_http import AuthClient
from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.core.breaker import State
from fiapx.core.circuit import Circuit, Resting
from fiapx.core.errors import InvalidToken, Unavailable
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.identity import Verifier
from fiapx.server.ratelimit import AuthLimiter
from fiapx.server.sessions import CachedSessions
from scripts.servers.process import free_port
from tests.api.upstreams import blackhole
from tests.processing_kit import ANA, Host, Tokens

EMAIL, PASSWORD, HOME = "ana@example.com", "correct horse battery", "192.0.2.1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "auth.db"))
    migrate(engine, "auth")
    yield engine
    engine.dispose()


@pytest.fixture
def auth(engine: Engine) -> AuthService:
    store = AuthStore(engine)
    limiter = AuthLimiter("9/minute", "9/minute")
    return AuthService(store, SigningKeys(store, "secret"), AuthPolicy(bcrypt_rounds=4), limiter)


class Instance:
    """The auth app where it is mounted; counts requests, and can be broken."""

    def __init__(self, auth: AuthService, engine: Engine) -> None:
        self._app = FastAPI()
        app = create_auth_app(auth, Verifier(auth.jwks, auth), Administration(SqlDirectory(engine)))
        self._app.mount("/api/v1/auth", app)
        self.paths: list[str] = []
        self.broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        if self.broken:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


@pytest.fixture
def instance(auth: AuthService, engine: Engine) -> Instance:
    return Instance(auth, engine)


@pytest.fixture
def client(instance: Instance, host: Host) -> Iterator[AuthClient]:
    nobody = f"http://127.0.0.1:{free_port()}"
    with host.serve(instance) as url:
        client = AuthClient([nobody, url], timeout=5)
        yield client
        client.close()


def login(auth: AuthService) -> str:
    auth.register(EMAIL, PASSWORD, HOME)
    return auth.login(EMAIL, PASSWORD, HOME).access_token


def test_a_service_alone_verifies_with_keys_and_sessions_of_auth(
    auth: AuthService, instance: Instance, client: AuthClient
) -> None:
    token = login(auth)
    verifier = Verifier(client.jwks, CachedSessions(MemoryCache(), client))
    identities = {verifier.verify(token) for _ in range(100)}
    assert {identity.email for identity in identities} == {EMAIL}
    assert instance.paths == ["/api/v1/auth/.well-known/jwks.json", "/api/v1/auth/session"]


def test_an_ended_session_is_told_by_auth(auth: AuthService, client: AuthClient) -> None:
    token = login(auth)
    verifier = Verifier(client.jwks, client)
    auth.logout(verifier.verify(token))
    with pytest.raises(InvalidToken):
        verifier.verify(token)


def test_without_auth_nobody_is_told_that_a_token_is_bad(
    auth: AuthService, instance: Instance, client: AuthClient
) -> None:
    token = login(auth)
    verifier = Verifier(client.jwks, client)
    verifier.verify(token)
    instance.broken = True
    with pytest.raises(Unavailable):
        verifier.verify(token)
    with pytest.raises(Unavailable):
        Verifier(client.jwks, client).verify(token)
    cached = Verifier(auth.jwks, CachedSessions(MemoryCache(), auth))
    assert cached.verify(token).email == EMAIL


def test_an_auth_that_is_silent_is_left_alone_and_found_again(
    auth: AuthService, instance: Instance, host: Host
) -> None:
    token = login(auth)
    states: list[State] = []
    circuit = Circuit("auth service", threshold=3, rest=0.5, on_change=lambda circuit: states.append(circuit.state))
    with blackhole() as silent, host.serve(instance) as url:
        client = AuthClient([silent, silent], timeout=0.2, circuit=circuit)
        for _ in range(3):
            with pytest.raises(Unavailable):
                client.active("", token)
        assert states == [State.OPEN]
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(Resting, match="The auth service has not answered") as refused:
                client.active("", token)
        assert refused.value.retry_after > 0
        assert time.monotonic() - began < 0.3  # each would wait for 0.4 s
        client.close()
        client = AuthClient([silent, url], timeout=0.2, circuit=circuit)
        time.sleep(0.5)  # until it may be asked again
        assert client.active("", token)
        assert states == [State.OPEN, State.HALF_OPEN, State.CLOSED]
        client.close()


class Keys:
    """Somebody's answer to a request for keys."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.asked = 0
        self.away = False

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise Unavailable
        return self._tokens.jwks()


def made_up(number: int) -> str:
    return jwt.encode({}, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": f"made up {number}"})


def test_made_up_keys_cost_auth_nothing() -> None:
    tokens = Tokens()
    keys = Keys(tokens)
    verifier = Verifier(keys, tokens, pause=60)
    verifier.verify(tokens.token(ANA))
    for number in range(20):
        with pytest.raises(InvalidToken):
            verifier.verify(made_up(number))
    assert keys.asked == 1


def test_known_keys_stay_good_while_auth_is_away() -> None:
    tokens = Tokens()
    keys = Keys(tokens)
    verifier = Verifier(keys, tokens, pause=0.05)
    verifier.verify(tokens.token(ANA))
    keys.away = True
    time.sleep(0.06)
    with pytest.raises(Unavailable):
        verifier.verify(made_up(1))
    verifier.verify(tokens.token(ANA))
    keys.away = False
    time.sleep(0.06)
    with pytest.raises(InvalidToken):
        verifier.verify(made_up(2))
