"""How many statements a request costs, whatever there is of everything: every route is in the table."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import Engine, event
from starlette.applications import Starlette
from starlette.routing import Mount

from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Identity
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService, TokenPair
from fiapx.server.auth.store import AuthStore
from fiapx.server.identity import Verifier
from fiapx.server.processing.uploads.model import NewUpload
from fiapx.server.ratelimit import AuthLimiter
from tests.postgres import Databases
from tests.processing_kit import Archive, Processing, processing

PASSWORD = "plum-orbit-tractor-91"
AUTH, API = "/api/v1/auth", "/api/v1"


class Services:
    """Auth and processing under the paths of the gateway. Counts the statements of both."""

    def __init__(self, auth: Engine, service: Processing) -> None:
        self.processing = service
        self.store = AuthStore(auth)
        limiter = AuthLimiter("1000/minute", "1000/minute")
        self.auth = AuthService(self.store, SigningKeys(self.store, "secret"), AuthPolicy(bcrypt_rounds=4), limiter)
        self.directory = SqlDirectory(auth)
        verifier = Verifier(self.auth.jwks, self.auth)
        auth_app = create_auth_app(self.auth, verifier, Administration(self.directory))
        self.apps = {AUTH: auth_app, API: service.app}
        self._app = Starlette(routes=[Mount(path, app) for path, app in self.apps.items()])
        self._statements = 0
        for engine in (auth, service.engine):
            event.listen(engine, "before_cursor_execute", self._count)

    def routes(self) -> set[str]:
        """All that are documented, as in ``GET /api/v1/jobs``."""
        return {
            f"{method.upper()} {prefix}{path}"
            for prefix, app in self.apps.items()
            for path, methods in app.openapi()["paths"].items()
            for method in methods
        }

    def cost(self, route: str, token: str, asked: dict[str, Any]) -> int:
        """The number of statements of a request, which is to be answered well."""
        method, _, template = route.partition(" ")
        options = {name: value for name, value in asked.items() if f"{{{name}}}" not in template}
        before = self._statements
        answer = anyio.run(self._call, method, template.format(**asked), token, options)
        assert answer.is_success, f"{route}: {answer.text}"
        return self._statements - before

    async def _call(self, method: str, path: str, token: str, options: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers, **options)

    def _count(self, *_: object) -> None:
        self._statements += 1


class World:
    """A user with so many sessions, videos, jobs and frames of a job, among so many users."""

    def __init__(self, services: Services, number: int) -> None:
        self.number = number
        self._auth, self._processing = services.auth, services.processing
        self.email = f"{uuid.uuid4().hex}@example.com"
        account = self._auth.register(self.email, PASSWORD, "192.0.2.1")
        services.directory.set_role(account.id, "admin")
        self._user = Identity(account.id, self.email, "s")
        for _ in range(number):
            services.store.open_session(account, uuid.uuid4().hex, 3600)
            self.other = services.store.add_user(f"{uuid.uuid4().hex}@example.com", "x")
            self.ended()

    def token(self, route: str) -> str:
        """Of a new session; processing has issuers of its own here."""
        return self.login().access_token if AUTH in route else self._processing.tokens.token(self._user)

    def login(self) -> TokenPair:
        return self._auth.login(self.email, PASSWORD, "192.0.2.1")

    def renamed(self) -> str:
        self.email = f"a{self.email}"
        return self.email

    def queued(self) -> str:
        return self._processing.queue_job(self._user)

    def ended(self) -> str:
        job_id = self.queued()
        while self._processing.row(job_id).state != "completed":  # others may be in front
            self._processing.complete(self._processing.claim(), Archive.of(self.number))
        return job_id

    def video(self) -> str:
        video_id: str = self._processing.row(self.ended()).video_id
        return video_id

    def upload(self) -> str:
        """Of five bytes, none of which has come."""
        return self._processing.uploads.create(self._user, NewUpload("a.mp4", 5, None, False), None)[0].id

    def wanted_video(self) -> str:
        """With jobs that wait."""
        video_id = self.video()
        for number in range(self.number):
            options = ExtractOptions(count=number + 1)
            self._processing.commands.create_job(self._user, video_id, options, None, fresh=True)
        return video_id


_NOTHING: dict[str, Any] = {}
_TUS = {"Tus-Resumable": "1.0.0"}
ROUTES: dict[str, Callable[[World], dict[str, Any]]] = {
    "POST /api/v1/videos": lambda _: {"content": uuid.uuid4().bytes, "params": {"name": "a.mp4"}},
    "GET /api/v1/videos": lambda _: {"params": {"limit": 200}},
    "GET /api/v1/videos/{video_id}": lambda world: {"video_id": world.video()},
    "DELETE /api/v1/videos/{video_id}": lambda world: {"video_id": world.wanted_video()},
    "POST /api/v1/jobs": lambda world: {"json": {"video_id": world.video(), "options": {"fps": "2"}}},
    "GET /api/v1/jobs": lambda _: {"params": {"limit": 200}},
    "GET /api/v1/jobs/{job_id}": lambda world: {"job_id": world.queued()},
    "DELETE /api/v1/jobs/{job_id}": lambda world: {"job_id": world.ended()},
    "POST /api/v1/jobs/{job_id}/cancel": lambda world: {"job_id": world.queued()},
    "POST /api/v1/jobs/{job_id}/retry": lambda world: {"job_id": world.ended()},
    "GET /api/v1/jobs/{job_id}/events": lambda world: {"job_id": world.ended()},
    "GET /api/v1/jobs/{job_id}/result": lambda world: {"job_id": world.ended()},
    "GET /api/v1/jobs/{job_id}/manifest": lambda world: {"job_id": world.ended()},
    "GET /api/v1/jobs/{job_id}/frames/{number}": lambda world: {"job_id": world.ended(), "number": world.number},
    "OPTIONS /api/v1/uploads": lambda _: _NOTHING,
    "POST /api/v1/uploads": lambda _: {"headers": _TUS | {"Upload-Length": "5"}},
    "GET /api/v1/uploads/{upload_id}": lambda world: {"upload_id": world.upload()},
    "PATCH /api/v1/uploads/{upload_id}": lambda world: {
        "upload_id": world.upload(),
        "headers": _TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
        "content": b"video",
    },
    "DELETE /api/v1/uploads/{upload_id}": lambda world: {"upload_id": world.upload(), "headers": _TUS},
    "POST /api/v1/auth/register": lambda _: {
        "json": {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD}
    },
    "POST /api/v1/auth/token": lambda world: {"data": {"username": world.email, "password": PASSWORD}},
    "POST /api/v1/auth/refresh": lambda world: {"json": {"refresh_token": world.login().refresh_token}},
    "POST /api/v1/auth/logout": lambda _: _NOTHING,
    "GET /api/v1/auth/session": lambda _: _NOTHING,
    "GET /api/v1/auth/me": lambda _: _NOTHING,
    "GET /api/v1/auth/.well-known/jwks.json": lambda _: _NOTHING,
    "GET /api/v1/auth/users": lambda _: {"params": {"limit": 200}},
    "POST /api/v1/auth/users/{user_id}/disable": lambda world: {"user_id": world.other.id},
    "POST /api/v1/auth/users/{user_id}/enable": lambda world: {"user_id": world.other.id},
    "POST /api/v1/auth/users/{user_id}/role": lambda world: {"user_id": world.other.id, "json": {"role": "admin"}},
    "POST /api/v1/auth/password": lambda _: {"json": {"current_password": PASSWORD, "new_password": PASSWORD}},
    "PATCH /api/v1/auth/me": lambda world: {"json": {"email": world.renamed(), "password": PASSWORD}},
    "DELETE /api/v1/auth/me": lambda world: {"json": {"password": PASSWORD}},
}
"""What to send: parameters of the path, and options of the request. The last one ends the user."""

_FREE = ["OPTIONS /api/v1/uploads", "GET /api/v1/auth/.well-known/jwks.json"]


@pytest.fixture
def services(tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr("fiapx.server.processing.admission._FRESH", 0.0)  # each request looks at the queue
    with processing(tmp_path, engine=databases("processing")) as service:
        yield Services(databases("auth"), service)


def test_every_route_is_in_the_table(services: Services) -> None:
    assert services.routes() == set(ROUTES)


def test_a_request_costs_the_same_whatever_there_is(services: Services) -> None:
    costs = {number: _costs(services, World(services, number)) for number in (1, 10, 100)}
    assert costs[1] == costs[10] == costs[100]
    assert max(costs[1].values()) < 20
    assert [route for route, cost in costs[1].items() if not cost] == _FREE


def _costs(services: Services, world: World) -> dict[str, int]:
    costs = {}
    for route, ask in ROUTES.items():
        token = world.token(route)
        costs[route] = services.cost(route, token, ask(world))
    return costs
