"""Who may call what: every route of the whole server, by its owner, another user, a stranger and with a token that has
expired. Generated, so that a new route cannot be forgotten."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from fiapx.bootstrap import embedded
from fiapx.settings import Settings
from tests.processing_kit import eventually, hosting

PASSWORD = "plum-orbit-tractor-91"
PUBLIC = {
    ("POST", "/api/v1/auth/register"),
    ("POST", "/api/v1/auth/token"),
    ("POST", "/api/v1/auth/refresh"),
    ("GET", "/api/v1/auth/.well-known/jwks.json"),
    ("GET", "/api/v1/health/live"),
    ("GET", "/api/v1/health/ready"),
    ("GET", "/api/v1/health/all"),
    ("OPTIONS", "/api/v1/uploads"),
}
"""All that a stranger may ask. A route that is missing here must refuse strangers."""

ADMINISTRATION = "/api/v1/auth/users"
"""Below this path, everybody who is no administrator gets the same answer, whatever is or is not there."""

MISSING = {
    "job_id": str(uuid.uuid4()),
    "video_id": str(uuid.uuid4()),
    "upload_id": str(uuid.uuid4()),
    "user_id": str(uuid.uuid4()),
    "number": 1,
}
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
"""Without these, uploads answer 412 to everybody."""


@dataclass(frozen=True)
class World:
    """A server on which Ana owns a job and its video, and an upload on its way, and Bob owns nothing."""

    http: httpx.Client
    ana: str
    bob: str
    expired: str
    owned: dict[str, str | int]

    def call(self, token: str | None, method: str, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if "/uploads" in path:
            headers |= TUS
        return self.http.request(method, path, headers=headers)

    @property
    def routes(self) -> list[tuple[str, str]]:
        paths: dict[str, dict[str, Any]] = self.http.get("/openapi.json").json()["paths"]
        return [(method.upper(), path) for path, methods in paths.items() for method in methods]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("idor")
    settings = Settings(home=home, bcrypt_rounds=4, access_ttl=600)
    with (
        hosting() as host,
        embedded(settings, host.url) as server,
        host.serve(server.app) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=20) as http,
    ):
        ana, bob = (_token(http, f"{name}@example.com") for name in ("ana", "bob"))
        video = {"file": ("clip.mp4", b"no video, but a job")}
        job = http.post("/api/v1/jobs", files=video, headers={"Authorization": f"Bearer {ana}"}).json()
        me = http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {ana}"}).json()
        upload = http.post(
            "/api/v1/uploads", headers=TUS | {"Upload-Length": "5", "Authorization": f"Bearer {ana}"}
        ).json()
        owned = {
            "job_id": job["id"],
            "video_id": job["video"]["id"],
            "upload_id": upload["id"],
            "user_id": me["id"],
            "number": 1,
        }
        yield World(http, ana, bob, _expired(home, settings, ana), owned)
        server.draining.set()


def _token(http: httpx.Client, email: str) -> str:
    http.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD}).raise_for_status()
    answer = http.post("/api/v1/auth/token", data={"username": email, "password": PASSWORD})
    return str(answer.json()["access_token"])


def _expired(home: Path, settings: Settings, good: str) -> str:
    """Ana's own token as it will look after its time, signed with the server's own key."""
    from fiapx.adapters.db import open_database, sqlite_url
    from fiapx.server.auth.keys import SigningKeys
    from fiapx.server.auth.store import AuthStore

    engine = open_database(sqlite_url(home / "auth.db"))
    (key,) = SigningKeys(AuthStore(engine), (home / "secret.key").read_text())._keys.values()
    engine.dispose()
    claims = jwt.decode(good, options={"verify_signature": False}) | {"exp": int(time.time()) - 1}
    return jwt.encode(claims, key, "EdDSA", {"kid": jwt.get_unverified_header(good)["kid"]})


def told(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def test_strangers_may_ask_for_what_is_public_and_nothing_else(world: World) -> None:
    assert set(world.routes) > PUBLIC
    for method, path in world.routes:
        stranger = world.call(None, method, path.format(**world.owned))
        if (method, path) in PUBLIC:
            assert stranger.status_code not in {401, 403, 404}, path
            continue
        assert told(stranger) == (401, "auth_required"), (method, path)
        for token in (world.expired, "nonsense", f"{world.ana}x", "\u00e9"):
            headers = {b"Authorization": f"Bearer {token}".encode()}
            refused = world.http.request(method, path.format(**world.owned), headers=headers)
            assert told(refused) == (401, "invalid_token"), (method, path)
            assert refused.headers["www-authenticate"] == "Bearer"


def test_what_is_anothers_is_as_if_it_were_not_there(world: World) -> None:
    private = [(method, path) for method, path in world.routes if "{" in path and ADMINISTRATION not in path]
    assert len(private) >= 10
    for method, path in private:
        theirs = world.call(world.bob, method, path.format(**world.owned))
        none = world.call(world.bob, method, path.format(**MISSING))
        assert told(theirs) == told(none) == (404, "not_found"), (method, path)
        assert theirs.content == none.content
        assert theirs.headers.keys() == none.headers.keys()
    body = {"video_id": world.owned["video_id"]}
    headers = {"Authorization": f"Bearer {world.bob}"}
    assert told(world.http.post("/api/v1/jobs", json=body, headers=headers)) == (404, "not_found")
    for path in ("/api/v1/jobs", "/api/v1/videos"):
        assert world.call(world.bob, "GET", path).json()["items"] == []


def test_administration_refuses_everybody_else_alike(world: World) -> None:
    routes = [(method, path) for method, path in world.routes if path.startswith(ADMINISTRATION)]
    assert len(routes) >= 4
    answers = [
        world.call(token, method, path.format(**ids))
        for method, path in routes
        for token in (world.ana, world.bob)
        for ids in (world.owned, MISSING)
    ]
    assert {told(answer) for answer in answers} == {(403, "forbidden")}
    assert len({answer.content for answer in answers}) == 1


def test_the_owner_finds_everything(world: World) -> None:
    """Without this, the tests above would pass on a server where nothing works."""
    job = f"/api/v1/jobs/{world.owned['job_id']}"
    eventually(lambda: world.call(world.ana, "GET", job).json()["state"] == "failed")
    for method, path in world.routes:
        if method == "GET" and "{" in path:
            answer = world.call(world.ana, method, path.format(**world.owned))
            result = any(path.endswith(name) for name in ("/result", "/manifest", "/{number}"))
            assert answer.status_code == (409 if result else 200), path


def test_methods_that_no_route_has_are_refused_everywhere(world: World) -> None:
    routes = set(world.routes)
    for path in {path for _, path in routes}:
        for method in ("PUT", "PATCH", "TRACE", "OPTIONS"):
            if (method, path) in routes:
                continue
            answer = world.call(world.ana, method, path.format(**world.owned))
            assert told(answer)[0] in {404, 405}, (method, path)


def test_nobody_can_make_themselves_somebody_else(world: World, tmp_path: Path) -> None:
    """`role` and `id` in a registration are ignored."""
    body = {"email": "eve@example.com", "password": PASSWORD, "role": "admin", "id": "1"}
    made = world.http.post("/api/v1/auth/register", json=body).json()
    assert made["role"] == "user"
    assert made["id"] != "1"
