"""Who passes the gateway, and whose address is believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fiapx.adapters.cache import MemoryCache
from fiapx.core.errors import Unavailable, UsageError
from fiapx.server.forwarded import ForwardedFor
from fiapx.server.gateway.edge import Edge
from fiapx.server.gateway.strangers import Strangers
from fiapx.server.identity import Verifier
from fiapx.server.proxy import Upstream
from fiapx.server.sessions import CachedSessions
from tests.api.upstreams import Served, Service, gateway, served
from tests.processing_kit import ANA, BOB, Tokens, eventually

MIB = 1024 * 1024


class Keys(Tokens):
    """Auth, which may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    def active(self, session_id: str, token: str) -> bool:
        if self.away:
            raise Unavailable
        return super().active(session_id, token)


KEYS, SERVICE = Keys(), Service()


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with served(SERVICE) as one:
        upstream, verifier = Upstream("things", [one.url]), Verifier(KEYS.jwks, KEYS)
        with gateway({"/api/v1": upstream}, edge=Edge(verifier), trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as front:
            yield front


@pytest.fixture
def front(shared: Served) -> Served:
    """The gateway before a service that nobody has asked yet."""
    SERVICE.requests.clear()
    KEYS.ended.clear()
    KEYS.away = False
    return shared


@pytest.fixture
def keys() -> Keys:
    return KEYS


@pytest.fixture
def service() -> Service:
    return SERVICE


def bearer(keys: Keys) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys.token(ANA)}"}


@pytest.mark.parametrize("value", [None, "Bearer", "Bearer x.y.z", "Basic YTpi", "token"])
@pytest.mark.parametrize("path", ["/api/v1/things/1", "/api/v1/auth/me", "/api/v1/nowhere", "/api/v1/auth/token/"])
def test_private_routes_ask_no_service_without_a_token(
    front: Served, service: Service, path: str, value: str | None
) -> None:
    answer = httpx.get(front.url + path, headers={"Authorization": value} if value else {})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.requests == []


def test_a_good_token_passes_until_its_session_ends(front: Served, service: Service, keys: Keys) -> None:
    assert httpx.get(front.url + "/api/v1/things/1", headers=bearer(keys)).status_code == 200
    assert service.headers["authorization"].startswith("Bearer ")  # services verify again
    keys.ended.add(ANA.session_id)
    assert httpx.get(front.url + "/api/v1/things/1", headers=bearer(keys)).json()["code"] == "invalid_token"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/metrics", "/api/v1/health/live", "/api/v1/health/ready"]
)
def test_what_is_public_needs_no_token(front: Served, path: str) -> None:
    assert httpx.get(front.url + path).status_code < 400


@pytest.mark.parametrize("path", ["auth/register", "auth/token", "auth/refresh", "auth/.well-known/jwks.json"])
def test_log_in_reaches_its_service(front: Served, service: Service, path: str) -> None:
    assert httpx.post(f"{front.url}/api/v1/{path}").status_code == 404  # this service has no such routes
    assert service.requests == [f"POST /api/v1/{path}"]


@pytest.mark.parametrize(
    "path", ["/internal/sessions", "/api/v1/internal/x", "/api/v1/auth/internal", "/api/v1/%69nternal/x", "/Internal"]
)
def test_internal_paths_never_pass(front: Served, service: Service, keys: Keys, path: str) -> None:
    assert httpx.get(front.url + path, headers=bearer(keys)).status_code == 404
    assert service.requests == []


def test_a_refused_upload_is_told_so_and_goes_nowhere(front: Served, service: Service) -> None:
    headers = {"Content-Length": str(32 * MIB), "Content-Type": "video/mp4"}
    answer = httpx.post(front.url + "/api/v1/videos", content=iter([b"x" * MIB] * 32), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_required")
    assert service.requests == []


@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD"])
def test_refusals_speak_the_protocol_of_uploads(front: Served, service: Service, method: str) -> None:
    answer = httpx.request(method, front.url + "/api/v1/uploads/1")
    assert (answer.status_code, answer.headers["tus-resumable"]) == (401, "1.0.0")
    assert "tus-resumable" not in httpx.request(method, front.url + "/api/v1/uploadsx").headers
    assert service.requests == []


def test_where_nobody_can_tell_it_is_503(front: Served, service: Service, keys: Keys) -> None:
    keys.away = True
    answer = httpx.get(front.url + "/api/v1/things/1", headers=bearer(keys))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]


class Hanging(Tokens):
    """Auth, which takes its time to tell what it knows of a session."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked = 0

    def active(self, session_id: str, token: str) -> bool:
        self.asked += 1
        self.go_on.wait(30)
        return super().active(session_id, token)


def test_who_is_known_does_not_wait_behind_those_that_only_auth_knows() -> None:
    auth, cache = Hanging(), MemoryCache()
    edge = Edge(
        Verifier(auth.jwks, CachedSessions(cache, auth)),
        known=Verifier(auth.jwks, CachedSessions(cache, Strangers())),
    )
    with served(SERVICE) as one, gateway({"/api/v1": Upstream("things", [one.url])}, edge=edge) as front:

        def ask(token: str) -> int:
            return httpx.get(
                f"{front.url}/api/v1/things/1", headers={"Authorization": f"Bearer {token}"}, timeout=60
            ).status_code

        assert ask(auth.token(ANA)) == 200
        auth.go_on.clear()
        with ThreadPoolExecutor(48) as threads:
            strangers = [threads.submit(ask, auth.token(BOB)) for _ in range(48)]
            try:
                eventually(lambda: auth.asked >= 16)
                began = time.monotonic()
                assert ask(auth.token(ANA)) == 200
                assert time.monotonic() - began < 5  # they hang for longer
            finally:
                auth.go_on.set()
            assert {stranger.result() for stranger in strangers} == {200}


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("10.1.2.3", "10.1.2.3"),
        ("nonsense", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        (None, "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_says_where_a_request_comes_from(
    front: Served, service: Service, keys: Keys, told: str | None, believed: str
) -> None:
    headers = bearer(keys) | ({"X-Forwarded-For": told, "X-Forwarded-Proto": "https"} if told else {})
    httpx.get(front.url + "/api/v1/things/1", headers=headers)
    assert service.headers["x-forwarded-for"] == believed
    assert service.headers["x-forwarded-proto"] == ("https" if told else "http")


def test_trusted_proxies_are_addresses() -> None:
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/8"):
        ForwardedFor(Service(), ["proxy.example.org"])
