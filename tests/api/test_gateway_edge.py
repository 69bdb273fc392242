"""What every answer gets at the edge: compression, the rules for other web pages, HTTPS."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib import import_module
from urllib.parse import quote

import httpx
import pytest

from fiapx.server.gateway.edge import Edge
from fiapx.server.identity import Verifier
from fiapx.server.proxy import Upstream
from tests.api.upstreams import Served, Service, gateway, served
from tests.processing_kit import ANA, Tokens

PAGE = "https://app.example.org"
TOKENS = Tokens()


@pytest.fixture(scope="module")
def front() -> Iterator[Served]:
    edge = Edge(Verifier(TOKENS.jwks, TOKENS), origins=[PAGE], https=True)
    with (
        served(Service()) as one,
        gateway({"/api/v1": Upstream("x", [one.url])}, edge=edge, trusted_proxies=["127.0.0.1"]) as front,
    ):
        yield front


def get(front: Served, path: str, method: str = "GET", **headers: str) -> tuple[httpx.Headers, bytes]:
    """Headers and the body as it came over the wire."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["Authorization"] = f"Bearer {TOKENS.token(ANA)}"
    with httpx.stream(method, front.url + path, headers=named) as answer:
        return answer.headers, b"".join(answer.iter_raw())


@pytest.mark.parametrize(
    ("kind", "accepted", "encoding"),
    [
        ("application/json", "gzip", "gzip"),
        ("application/json", "gzip, deflate, br", "br"),
        ("application/json", "br;q=0, gzip", "gzip"),
        ("application/json", "gzip;q=0.0", None),
        ("application/json", "identity", None),
        ("application/problem+json", "*", "gzip"),
        ("text/html", "br", "br"),
        ("application/zip", "gzip, br", None),
        ("image/jpeg", "gzip, br", None),
        ("video/mp4", "gzip, br", None),
        ("application/octet-stream", "gzip, br", None),
    ],
)
def test_text_is_compressed_and_nothing_else(front: Served, kind: str, accepted: str, encoding: str | None) -> None:
    headers, body = get(front, f"/api/v1/text?kind={quote(kind)}&size=80000", Accept_Encoding=accepted)
    assert headers.get("content-encoding") == encoding
    whole = {"gzip": gzip.decompress, "br": import_module("brotli").decompress, None: bytes}[encoding](body)
    assert whole == b"abcdefgh" * 10_000
    assert (len(body) < 1000) is (encoding is not None)
    is_text = kind.startswith("text/") or "json" in kind
    assert ("Accept-Encoding" in headers.get("vary", "")) is is_text
    assert ("content-length" in headers) is (encoding is None)


def test_what_is_small_or_has_no_body_is_left_alone(front: Served) -> None:
    headers, body = get(front, "/api/v1/things/1", Accept_Encoding="gzip")
    assert ("content-encoding" in headers, headers["content-length"]) == (False, str(len(body)))
    headers, body = get(front, "/api/v1/things/1", "HEAD", Accept_Encoding="gzip")
    assert ("content-encoding" in headers, body) == (False, b"")


def test_event_streams_are_left_alone(front: Served) -> None:
    token = {"Authorization": f"Bearer {TOKENS.token(ANA)}", "Accept-Encoding": "gzip, br"}
    with httpx.stream("GET", front.url + "/api/v1/events", headers=token) as answer:
        assert next(answer.iter_raw()) == b"data: tick\n\n"
        assert "content-encoding" not in answer.headers


def test_listed_pages_may_use_the_api(front: Served) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = httpx.options(front.url + "/api/v1/jobs", headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert "Origin" in answer.headers["vary"]
    headers, _ = get(front, "/api/v1/things/1", Origin=PAGE)
    assert headers["access-control-allow-origin"] == PAGE
    assert "Retry-After" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in headers
    refused = httpx.get(front.url + "/api/v1/things/1", headers={"Origin": PAGE})  # scripts may read errors, too
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.org.evil.example", "null"])
def test_other_pages_may_not(front: Served, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = httpx.options(front.url + "/api/v1/jobs", headers=asked)
    assert answer.status_code == 204
    headers, _ = get(front, "/api/v1/things/1", Origin=origin)
    for found in (answer.headers, headers):
        assert not [name for name in found if name.startswith("access-control-allow-origin")]


def test_browsers_are_told_to_come_by_https(front: Served) -> None:
    headers, _ = get(front, "/api/v1/things/1")
    assert headers["strict-transport-security"].startswith("max-age=31536000")
    with gateway({}) as plain:
        assert "strict-transport-security" not in httpx.get(plain.url + "/docs").headers


def test_what_came_by_plain_http_is_refused(front: Served) -> None:
    token = {"Authorization": f"Bearer {TOKENS.token(ANA)}"}
    for scheme, status in (("http", 403), ("https", 200)):
        answer = httpx.get(front.url + "/api/v1/things/1", headers=token | {"X-Forwarded-Proto": scheme})
        assert answer.status_code == status
    assert httpx.get(front.url + "/api/v1/health/live").status_code == 200


def test_services_elsewhere_are_documented() -> None:
    document = {"paths": {"/things": {"get": {"summary": "Things"}}}}
    with gateway({}, documents={"/api/v1": document}) as front:
        assert httpx.get(front.url + "/openapi.json").json()["paths"]["/api/v1/things"] == document["paths"]["/things"]
