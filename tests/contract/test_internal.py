"""Services of other versions: what the gateway, auth and processing ask each other is written down in internal_v1.json.

Each side is tried against that description alone. Whoever keeps to it works with any version that does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import jsonschema
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.adapters.auth_http import AuthClient
from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.gateway.app import create_gateway
from fiapx.server.gateway.edge import Edge
from fiapx.server.identity import Verifier
from fiapx.server.proxy import Upstream
from fiapx.server.ratelimit import AuthLimiter
from fiapx.server.sessions import CachedSessions, EndedSessions
from tests.api.upstreams import Served, gateway, served
from tests.processing_kit import ANA, Processing, processing

CONTRACT: Final = json.loads(Path(__file__).with_name("internal_v1.json").read_text(encoding="utf-8"))
QUESTIONS: Final = [
    (service, path, int(status))
    for path, item in CONTRACT["paths"].items()
    for service in item["get"]["tags"]
    for status in item["get"]["responses"]
]
TOKEN: Final = CONTRACT["x-access-token"]
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))
"""Its public half is the one in the description."""

LATER: Final = {"of_a_later_version": {"anything": [1, None]}}
HOME: Final = "192.0.2.1"


def described(path: str, status: int) -> dict[str, Any]:
    found: dict[str, Any] = CONTRACT["paths"][path]["get"]["responses"][str(status)]
    return found


class Services:
    """Auth and processing as processes of their own serve them. `broken` is what their health depends on."""

    def __init__(self, auth: AuthService, administration: Administration, service: Processing) -> None:
        self.auth, self.processing = auth, service
        self.broken = False
        self.token = auth.login(ANA.email, "correct horse battery", HOME).access_token
        auth_app = create_auth_app(auth, Verifier(auth.jwks, auth), administration)
        self._apps = {
            "auth": self._behind({"/api/v1/auth": auth_app}),
            "processing": self._behind({"/api/v1": service.app}),
        }

    def ask(self, service: str, path: str, status: int) -> httpx.Response:
        """The question in the situation that is to lead to this status."""
        self.broken = status == 503
        token = self.token if service == "auth" else self.processing.tokens.token(ANA)
        if status == 401 and service == "auth":
            self.auth.logout(Verifier(self.auth.jwks, self.auth).verify(token))
        elif status == 401:
            self.processing.tokens.ended.add(ANA.session_id)
        asked = {parameter["name"]: "1" for parameter in CONTRACT["paths"][path]["get"].get("parameters", [])}
        headers = asked | {"authorization": f"Bearer {token}", "x-of-a-later-version": "1"}
        return anyio.run(_get, self._apps[service], path, headers)

    def _behind(self, mounts: dict[str, ASGIApp]) -> ASGIApp:
        return create_gateway(
            mounts=mounts,
            checks={"storage": self._check},
            registry=CollectorRegistry(),
            draining=threading.Event(),
            behind=True,
        )

    def _check(self) -> None:
        if self.broken:
            raise OSError


async def _get(app: ASGIApp, path: str, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path, headers=headers)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    engine = open_database(sqlite_url(tmp_path / "auth.db"))
    migrate(engine, "auth")
    store = AuthStore(engine)
    auth = AuthService(
        store, SigningKeys(store, "secret"), AuthPolicy(bcrypt_rounds=4), AuthLimiter("9/minute", "9/minute")
    )
    auth.register(ANA.email, "correct horse battery", HOME)
    with processing(tmp_path) as service:
        yield Services(auth, Administration(SqlDirectory(engine)), service)
    engine.dispose()


def test_services_answer_all_that_others_ask(services: Services) -> None:
    for service, path, status in sorted(QUESTIONS, key=lambda question: question[2] == 401):  # sessions end last
        answer = services.ask(service, path, status)
        assert answer.status_code == status, f"{service} {path}: {answer.text}"
        _complies(answer, described(path, status))
    claims = jwt.decode(services.token, options={"verify_signature": False})
    jsonschema.validate(claims, TOKEN["schema"])


def _complies(answer: httpx.Response, promised: dict[str, Any]) -> None:
    for name, header in promised.get("headers", {}).items():
        jsonschema.validate(answer.headers[name], header["schema"])
    for kind, content in promised.get("content", {}).items():
        assert answer.headers["content-type"].startswith(kind)
        jsonschema.validate(answer.json(), content["schema"])


def test_services_share_the_keys_of_the_cache(services: Services) -> None:
    sessions, version = CONTRACT["x-cache"]["keys"].values()
    cache = MemoryCache()
    EndedSessions(cache, keep=60).tell(["s-1"])
    assert cache.get("session:s-1") == sessions["ended"].encode()
    CachedSessions(cache, services.processing.tokens).active("s-2", "")
    assert cache.get("session:s-2") == sessions["good"].encode()
    services.processing.queue_job()
    found = services.processing.cache.get(f"version:{ANA.user_id}")
    assert found is not None
    jsonschema.validate(found.decode(), {"type": "string"} | version)


class Described:
    """Auth and processing as they are written down, of a version that tells more in every object and header."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.headers: set[str] = set()
        self.status = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.asked.add(f"{scope['method']} {path}")
        self.headers |= {name.decode() for name, _ in scope["headers"]}
        await self._answer(path)(scope, receive, send)

    def _answer(self, path: str) -> Response:
        if path not in CONTRACT["paths"]:
            return Response(status_code=404)
        statuses = [int(status) for status in CONTRACT["paths"][path]["get"]["responses"]]
        status = self.status if self.status in statuses else statuses[0]
        promised = described(path, status)
        headers = {name: header["example"] for name, header in promised.get("headers", {}).items()}
        headers["x-of-a-later-version"] = "1"
        if "content" not in promised:
            return Response(status_code=status, headers=headers)
        return JSONResponse(_more(promised["content"]["application/json"]["example"]), status, headers)


def _more(value: Any) -> Any:
    """With unknown fields in every object, but for one that is a table of names."""
    if isinstance(value, list):
        return [_more(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _more(item) for name, item in value.items()} | ({} if "storage" in value else LATER)


@pytest.fixture
def other() -> Described:
    return Described()


@pytest.fixture
def front(other: Described) -> Iterator[Served]:
    """This version's gateway before the services of another one."""
    with served(other) as service:
        auth = AuthClient([service.url])
        verifier = Verifier(auth.jwks, CachedSessions(MemoryCache(), auth))
        upstreams = {"/api/v1/auth": Upstream("auth", [service.url]), "/api/v1": Upstream("processing", [service.url])}
        with gateway(upstreams, edge=Edge(verifier, cache=MemoryCache())) as front:
            yield front
        auth.close()


def ask(front: Served, path: str, session: str = "s-1") -> httpx.Response:
    now = int(time.time())
    claims = TOKEN["example"] | LATER | {"sid": session, "iat": now, "exp": now + 600}
    token = jwt.encode(claims, KEY, "EdDSA", {"kid": "k1"})
    return httpx.get(front.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False)


def test_a_gateway_needs_nothing_that_is_not_written_down(other: Described, front: Served) -> None:
    assert ask(front, "/api/v1/jobs").json() == {"items": [], "next_cursor": None} | LATER
    assert ask(front, "/api/v1/health/all").status_code == 200
    other.status = 503
    checks = ask(front, "/api/v1/health/all").json()["checks"]
    assert {name: check["status"] for name, check in checks.items()} == {
        "auth": "ok",
        "processing": "ok",
        "storage": "failing",
    }
    other.status = 401
    assert ask(front, "/api/v1/jobs", "s-2").status_code == 401
    assert other.asked <= {f"GET {path}" for path in CONTRACT["paths"]}
    parameters = CONTRACT["paths"]["/api/v1/jobs"]["get"]["parameters"]
    assert {name for name in other.headers if name.startswith("x-")} <= {each["name"] for each in parameters}
