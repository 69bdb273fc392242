"""The auth service over HTTP."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy import Engine

from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.identity import Verifier
from fiapx.server.ratelimit import AuthLimiter

PASSWORD = "correct horse battery"
EMAIL = "ana@example.com"


class Api:
    """Calls an ASGI app."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def __call__(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers=headers, **options)

        return anyio.run(call)

    def login(self, password: str = PASSWORD) -> dict[str, Any]:
        answer = self("POST", "/token", data={"username": EMAIL, "password": password})
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "auth.db"))
    migrate(engine, "auth")
    yield engine
    engine.dispose()


@pytest.fixture
def service(engine: Engine) -> AuthService:
    store = AuthStore(engine)
    return AuthService(
        store, SigningKeys(store, "secret"), AuthPolicy(bcrypt_rounds=4), AuthLimiter("3/minute", "60/minute")
    )


@pytest.fixture
def api(service: AuthService, engine: Engine) -> Api:
    return Api(create_auth_app(service, Verifier(service.jwks, service), Administration(SqlDirectory(engine))))


@pytest.fixture
def tokens(api: Api) -> dict[str, Any]:
    assert api("POST", "/register", json={"email": EMAIL, "password": PASSWORD}).status_code == 201
    return api.login()


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_register(api: Api) -> None:
    answer = api("POST", "/register", json={"email": "Ana@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json()["email"] == EMAIL
    assert {"id", "created_at"} < answer.json().keys()
    assert_problem(api("POST", "/register", json={"email": EMAIL, "password": PASSWORD}), 409, "email_taken")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"email": EMAIL, "password": "password"}, "weak_password"),
        ({"email": EMAIL, "password": "x" * 1025}, "invalid_request"),
        ({"email": "nobody", "password": PASSWORD}, "invalid_request"),
        ({"email": EMAIL}, "invalid_request"),
        ({"email": EMAIL, "password": 7}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_a_bad_registration_is_a_problem_that_keeps_the_password_to_itself(api: Api, body: Any, code: str) -> None:
    answer = api("POST", "/register", json=body)
    assert_problem(answer, 422, code)
    assert "xxxx" not in answer.text


def test_a_password_that_is_not_unicode_is_refused(api: Api) -> None:
    body = b'{"email": "ana@example.com", "password": "a good pass \\ud800"}'
    assert_problem(api("POST", "/register", content=body), 422, "invalid_request")
    assert_problem(api("POST", "/register", content=b"{"), 422, "invalid_request")


def test_the_token_form_and_me(api: Api, tokens: dict[str, Any]) -> None:
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 900
    assert api("GET", "/me", tokens["access_token"]).json()["email"] == EMAIL
    form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD, "scope": "", "client_id": "x"}
    assert api("POST", "/token", data=form).status_code == 200
    assert_problem(api("POST", "/token", data=form | {"grant_type": "other"}), 422, "invalid_request")


def test_wrong_log_ins_look_alike_and_are_limited(api: Api, tokens: dict[str, Any]) -> None:
    known = api("POST", "/token", data={"username": EMAIL, "password": "wrong password"})
    unknown = api("POST", "/token", data={"username": "nobody@example.com", "password": "wrong password"})
    assert_problem(known, 401, "invalid_credentials")
    assert known.text == unknown.text
    assert known.headers["www-authenticate"] == "Bearer"
    for _ in range(2):
        api("POST", "/token", data={"username": EMAIL, "password": "wrong password"})
    limited = api("POST", "/token", data={"username": EMAIL, "password": PASSWORD})
    assert_problem(limited, 429, "rate_limited")
    assert 1 <= int(limited.headers["retry-after"]) <= 61


def test_many_log_ins_leave_room_for_everybody_else(engine: Engine, tokens: dict[str, Any]) -> None:
    store = AuthStore(engine)
    service = AuthService(
        store, SigningKeys(store, "secret"), AuthPolicy(bcrypt_rounds=10), AuthLimiter("999/minute", "60/minute")
    )
    app = create_auth_app(service, Verifier(service.jwks, service), Administration(SqlDirectory(engine)))
    ended: list[str] = []

    async def call(client: httpx.AsyncClient, name: str, method: str, **options: Any) -> None:
        answer = await client.request(method, f"/{name}", **options)
        assert answer.status_code in {200, 401}
        ended.append(name)

    async def crowd() -> None:
        form = {"username": "nobody@example.com", "password": "wrong password"}
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(60):  # more than there are threads
                tasks.start_soon(partial(call, client, "token", "POST", data=form))
            await anyio.sleep(0.2)
            await call(client, "me", "GET", headers=bearer)

    anyio.run(crowd)
    assert ended.index("me") < 30


def test_refresh_and_log_out(api: Api, tokens: dict[str, Any]) -> None:
    fresh = api("POST", "/refresh", json={"refresh_token": tokens["refresh_token"]}).json()
    assert fresh.keys() == tokens.keys()
    left = api("POST", "/logout", fresh["access_token"])
    assert (left.status_code, left.headers.get("content-type")) == (204, None)
    assert_problem(api("GET", "/me", fresh["access_token"]), 401, "invalid_token")
    assert_problem(api("POST", "/refresh", json={"refresh_token": fresh["refresh_token"]}), 401, "invalid_token")


def test_change_the_password_and_delete_the_account(api: Api, tokens: dict[str, Any]) -> None:
    access = tokens["access_token"]
    change = {"current_password": PASSWORD, "new_password": "another good one"}
    assert api("POST", "/password", access, json=change).status_code == 204
    assert_problem(api("POST", "/password", access, json=change), 401, "invalid_credentials")
    assert_problem(api("DELETE", "/me", access, json={"password": PASSWORD}), 401, "invalid_credentials")
    assert api("DELETE", "/me", access, json={"password": "another good one"}).status_code == 204
    assert_problem(api("GET", "/me", access), 401, "invalid_token")


PRIVATE = [
    ("GET", "/session"),
    ("POST", "/logout"),
    ("GET", "/me"),
    ("PATCH", "/me"),
    ("POST", "/password"),
    ("DELETE", "/me"),
    ("GET", "/users"),
    ("POST", "/users/{user_id}/disable"),
    ("POST", "/users/{user_id}/enable"),
    ("POST", "/users/{user_id}/role"),
]


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_private_routes_need_a_token(api: Api, method: str, path: str) -> None:
    body = {"password": PASSWORD, "current_password": PASSWORD, "new_password": PASSWORD}
    assert_problem(api(method, path, json=body), 401, "auth_required")
    assert_problem(api(method, path, "nonsense", json=body), 401, "invalid_token")


def test_openapi_names_the_private_routes(api: Api) -> None:
    document = api.app.openapi()
    private = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    }
    assert private == set(PRIVATE)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bad_tokens(service: AuthService, good: str, refresh: str) -> dict[str, str]:
    """Eight ways to forge or misuse a token."""
    claims = jwt.decode(good, options={"verify_signature": False})
    header = jwt.get_unverified_header(good)
    (signer,) = service._keys._keys.values()
    (public,) = service.jwks()["keys"]
    stranger = Ed25519PrivateKey.generate()
    none = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "none", "kid": header["kid"]}, claims)) + "."
    public_bytes = signer.public_key().public_bytes_raw()
    hs256_key = jwt.PyJWK.from_dict({"kty": "oct", "k": b64(public_bytes), "alg": "HS256"})

    def sign(changes: dict[str, Any], **more: Any) -> str:
        return jwt.encode(claims | changes, signer, "EdDSA", {"kid": header["kid"], **more})

    return {
        "none": none,
        "hs256 with the public key": jwt.encode(claims, hs256_key, "HS256", {"kid": public["kid"]}),
        "unknown kid": jwt.encode(claims, stranger, "EdDSA", {"kid": "unknown"}),
        "jku": jwt.encode(claims, stranger, "EdDSA", {"kid": header["kid"], "jku": "http://evil.example/jwks.json"}),
        "expired": sign({"iat": int(time.time()) - 1000, "exp": int(time.time()) - 1}),
        "wrong audience": sign({"aud": "another service"}),
        "refresh as access": refresh,
        "another type": sign({"typ": "refresh"}),
    }


def test_eight_bad_tokens(api: Api, service: AuthService, tokens: dict[str, Any]) -> None:
    assert api("GET", "/me", tokens["access_token"]).status_code == 200
    for token in bad_tokens(service, tokens["access_token"], tokens["refresh_token"]).values():
        assert_problem(api("GET", "/me", token), 401, "invalid_token")


def test_the_public_keys_verify_a_token(api: Api, tokens: dict[str, Any]) -> None:
    keys = jwt.PyJWKSet.from_dict(api("GET", "/.well-known/jwks.json").json())
    kid = jwt.get_unverified_header(tokens["access_token"])["kid"]
    claims = jwt.decode(tokens["access_token"], keys[kid], ["EdDSA"], issuer="fiapx-auth", audience="fiapx")
    assert claims.keys() == {"iss", "aud", "iat", "exp", "typ", "sub", "sid", "email", "role"}


def test_unknown_paths_and_methods_are_problems(api: Api) -> None:
    assert_problem(api("GET", "/nowhere"), 404, "not_found")
    assert_problem(api("PUT", "/me"), 405, "method_not_allowed")


def test_a_database_that_fails_is_temporary_trouble(api: Api, tokens: dict[str, Any], engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE sessions")
    answer = api("GET", "/me", tokens["access_token"])
    assert_problem(answer, 503, "unavailable")
    assert "sessions" not in answer.text
    assert int(answer.headers["retry-after"]) > 0
