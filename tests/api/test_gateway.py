"""The gateway, on a real server: what all requests get, whatever is mounted."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, create_model
from starlette.types import ASGIApp

from fiapx.core.errors import NotFound, Unavailable
from fiapx.server.gateway.app import create_gateway
from fiapx.server.gateway.body import MAX_BODY
from fiapx.server.http import create_app
from fiapx.server.identity import CurrentUser
from tests.processing_kit import eventually

MIB = 1024 * 1024


class Item(BaseModel):
    """Processing's item; auth has another of the same name."""

    name: str


def processing(events: list[str]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        events.append("processing up")
        yield
        events.append("processing down")

    app = create_app("processing", lifespan=lifespan)
    router = APIRouter()

    @router.get("/jobs/{job_id}")
    def show(job_id: str) -> Item:
        if job_id == "missing":
            raise NotFound
        return Item(name=job_id)

    @router.post("/jobs")
    async def create(request: Request) -> dict[str, int]:
        size = 0
        async for part in request.stream():
            size += len(part)
        return {"size": size}

    @router.post("/videos")
    async def refuse(_user: CurrentUser) -> None:
        """Refuses before it reads the body."""

    @router.post("/items")
    async def echo(item: Item) -> Item:
        return item

    @router.get("/crash")
    def crash() -> None:
        raise ValueError("a secret detail")

    @router.get("/broken-stream")
    async def broken_stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"the beginning"
            raise ValueError("a secret detail")

        return StreamingResponse(parts())

    @router.get("/ticks")
    async def ticks() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"tick\n"
                await asyncio.sleep(0.3)

        return StreamingResponse(parts())

    app.include_router(router)
    return app


def auth() -> FastAPI:
    app = create_app("auth")

    @app.get("/items", response_model=create_model("Item", email=str))
    def items() -> dict[str, str]:
        return {"email": "ana@example.com"}

    return app


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    """An app that nobody can look into, like a proxy."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


class Running:
    """A gateway being served; `url` is its address."""

    def __init__(self, checks: dict[str, Callable[[], None]] | None = None, body_timeout: float = 5) -> None:
        self.events: list[str] = []
        self.draining = threading.Event()
        mounts: dict[str, ASGIApp] = {
            "/api/v1": processing(self.events), "/api/v1/auth": auth(), "/api/v2": opaque
        }  # fmt: skip
        self.app = create_gateway(
            mounts=mounts,
            checks=checks or {},
            registry=CollectorRegistry(),
            draining=self.draining,
            body_timeout=body_timeout,
            lifespan=self._lifespan,
        )
        self.port = 0

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        self.events.append("own up")
        yield
        self.events.append("own down")

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, **options)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def running(**options: Any) -> Iterator[Running]:
    gateway = Running(**options)
    server = uvicorn.Server(uvicorn.Config(gateway.app, log_config=None, access_log=False, lifespan="on"))
    listener = socket.create_server(("127.0.0.1", 0))
    gateway.port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield gateway
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with running() as gateway:
        yield gateway


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_mounted_apps_answer_under_their_prefix(gateway: Running) -> None:
    assert gateway.get("/api/v1/jobs/7").json() == {"name": "7"}
    assert gateway.get("/api/v1/auth/items").json() == {"email": "ana@example.com"}
    assert gateway.get("/api/v2/anything").text == "/api/v2/anything"


def test_lifespans_run_inside_out() -> None:
    with running() as gateway:
        assert gateway.events == ["processing up", "own up"]
    assert gateway.events == ["processing up", "own up", "own down", "processing down"]


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/api/nowhere", "/api/v1/nowhere", "/api/v1/auth/nowhere", "/api/v1/jobs/missing", "/docs/../x"],
)
def test_what_is_missing_is_a_problem(gateway: Running, path: str) -> None:
    assert_problem(gateway.get(path), 404, "not_found")


def test_other_errors_are_problems(gateway: Running) -> None:
    assert_problem(httpx.put(gateway.url + "/docs"), 405, "method_not_allowed")
    assert_problem(httpx.put(gateway.url + "/api/v1/jobs/7"), 405, "method_not_allowed")
    assert_problem(httpx.post(gateway.url + "/api/v1/items", content="{"), 422, "invalid_request")
    assert_problem(httpx.post(gateway.url + "/api/v1/videos"), 401, "auth_required")


def test_a_crash_tells_nothing_and_has_all_headers(gateway: Running) -> None:
    with structlog.testing.capture_logs():
        answer = gateway.get("/api/v1/crash")
    assert_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]


def test_a_stream_that_breaks_is_cut_and_not_finished(gateway: Running) -> None:
    with structlog.testing.capture_logs(), pytest.raises(httpx.RemoteProtocolError):
        gateway.get("/api/v1/broken-stream")


def test_answers_stream_through(gateway: Running) -> None:
    with httpx.stream("GET", gateway.url + "/api/v1/ticks") as answer:
        arrivals = [time.monotonic() for _ in answer.iter_raw()]
    assert arrivals[-1] - arrivals[0] > 0.4


@pytest.mark.parametrize("path", ["/api/v1/jobs/7", "/api/v1/nowhere", "/docs", "/api/v1/health/live", "/openapi.json"])
def test_security_headers(gateway: Running, path: str) -> None:
    headers = gateway.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    if path.startswith("/api"):
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("7f3c-41", True), ("a" * 64, True), ("a" * 65, False), ("two words", False), ("<script>", False), ("", False)],
)
def test_request_ids_are_echoed_if_harmless(gateway: Running, sent: str, kept: bool) -> None:
    echoed = gateway.get("/api/v1/health/live", headers={"X-Request-ID": sent}).headers["x-request-id"]
    assert (echoed == sent) is kept
    assert echoed


def test_one_log_line_a_request_without_its_query(gateway: Running) -> None:
    processors = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=processors) as lines:
        gateway.get("/api/v1/jobs/7?token=secret", headers={"X-Request-ID": "abc"})
    (line,) = lines
    assert line.pop("ms") >= 0
    assert line == {
        "event": "request", "log_level": "info", "client": "127.0.0.1", "method": "GET", "path": "/api/v1/jobs/7",
        "service": "processing", "route": "/api/v1/jobs/{job_id}", "status": 200, "bytes": 12, "request_id": "abc",
    }  # fmt: skip


def test_a_crash_is_logged_once_with_its_request(gateway: Running) -> None:
    processors = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=processors) as lines:
        gateway.get("/api/v1/crash", headers={"X-Request-ID": "abc"})
        eventually(lambda: len(lines) >= 2)  # the last line comes after the answer
    assert [line["event"] for line in lines] == ["unexpected_error", "request"]
    assert {line["request_id"] for line in lines} == {"abc"}


# --- bodies ---


def test_a_small_json_body_is_fine_and_a_large_one_is_not(gateway: Running) -> None:
    url = gateway.url + "/api/v1/items"
    assert httpx.post(url, json={"name": "x" * (MAX_BODY - 100)}).status_code == 200
    assert_problem(httpx.post(url, json={"name": "x" * MAX_BODY}), 413, "payload_too_large")
    chunked = httpx.post(url, content=iter([b"x" * MIB] * 3), headers={"Content-Type": "application/json"})
    assert_problem(chunked, 413, "payload_too_large")


@pytest.mark.parametrize("kind", ["video/mp4", "application/octet-stream", "text/plain"])
def test_a_content_type_does_not_lift_the_limit_of_a_parsed_route(gateway: Running, kind: str) -> None:
    answer = httpx.post(gateway.url + "/api/v1/items", content=b"x" * 2 * MIB, headers={"Content-Type": kind})
    assert_problem(answer, 413, "payload_too_large")


def test_uploads_have_no_limit_here_unless_they_are_json(gateway: Running) -> None:
    url, body = gateway.url + "/api/v1/jobs", b"x" * 3 * MIB
    for kind in ("video/mp4", "multipart/form-data; boundary=x"):
        assert httpx.post(url, content=body, headers={"Content-Type": kind}).json() == {"size": 3 * MIB}
    for kind in ("application/json; charset=utf-8", "application/x-www-form-urlencoded", "application/vnd.x+json"):
        assert_problem(httpx.post(url, content=body, headers={"Content-Type": kind}), 413, "payload_too_large")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_early_answer_reaches_a_client_that_is_still_sending(gateway: Running, chunked: bool) -> None:
    size = 64 * MIB
    body = iter([b"x" * MIB] * 64)
    headers = {"Content-Type": "video/mp4"} | ({} if chunked else {"Content-Length": str(size)})
    answer = httpx.post(gateway.url + "/api/v1/videos", content=body, headers=headers, timeout=20)
    assert_problem(answer, 401, "auth_required")
    assert answer.headers["connection"] == "close"


def test_a_small_unread_body_keeps_the_connection(gateway: Running) -> None:
    with gateway.connect() as connection:
        for _ in range(2):
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 404")
            assert b"connection: close" not in answer.lower()


def test_silence_in_a_body_gets_408_and_ends_the_connection() -> None:
    with running(body_timeout=0.3) as gateway, gateway.connect() as connection:
        started = time.monotonic()
        connection.sendall(
            b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: 9\r\n\r\nab"
        )
        with structlog.testing.capture_logs() as lines:
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert 0.25 < time.monotonic() - started < 3
        assert head.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["code"] == "request_timeout"
        assert [(line["event"], line.get("status")) for line in lines] == [("request", 408)]


def test_a_trickle_counts_as_silence() -> None:
    with running(body_timeout=0.5) as gateway, gateway.connect() as connection:
        connection.sendall(b"POST /api/v1/items HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        started = time.monotonic()
        connection.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - started < 5:
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_slow_answer_is_not_the_client_s_fault() -> None:
    with running(body_timeout=0.2) as gateway:
        assert gateway.get("/api/v1/ticks").text == "tick\n" * 3


def test_a_client_that_leaves_is_no_error(gateway: Running) -> None:
    with structlog.testing.capture_logs() as lines:
        with gateway.connect() as connection:
            connection.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
            time.sleep(0.1)
        for _ in range(100):
            if lines:
                break
            time.sleep(0.02)
    assert [line["log_level"] for line in lines] == ["info"]


# --- health and shutdown ---


def broken() -> None:
    raise Unavailable("The queue does not answer.")


def crash() -> None:
    raise ValueError("a secret detail")


def test_health_when_all_is_well() -> None:
    with running(checks={"database": lambda: None}) as gateway:
        assert gateway.get("/api/v1/health/live").json() == {"status": "ok"}
        assert gateway.get("/api/v1/health/ready").status_code == 200
        report = gateway.get("/api/v1/health/all")
        assert report.status_code == 200
        assert report.json()["checks"]["database"]["status"] == "ok"


def test_health_names_what_fails_and_answers_in_time() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(10)

    checks = {"database": lambda: None, "queue": broken, "storage": hang, "worker": crash}
    with running(checks=checks) as gateway:
        threads = threading.active_count()
        for _ in range(2):
            started = time.monotonic()
            answer = gateway.get("/api/v1/health/all")
            assert time.monotonic() - started < 2
        assert answer.status_code == 503
        assert answer.json()["status"] == "failing"
        results = {name: (check["status"], check["detail"]) for name, check in answer.json()["checks"].items()}
        assert results == {
            "database": ("ok", None),
            "queue": ("failing", "The queue does not answer."),
            "storage": ("timeout", "No answer yet."),
            "worker": ("failing", "The check failed; the server's log says why."),
        }
        assert threading.active_count() <= threads + 1  # the hanging check was not started twice
        body = assert_problem(gateway.get("/api/v1/health/ready"), 503, "unavailable")
        assert body["detail"] == "Not ready: queue, storage, worker."
        assert gateway.get("/api/v1/health/live").status_code == 200
        release.set()


def test_a_draining_server_refuses_new_work() -> None:
    with running() as gateway:
        gateway.draining.set()
        answer = gateway.get("/api/v1/jobs/7")
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["connection"] == "close"
        assert answer.headers["retry-after"] == "1"
        assert gateway.get("/api/v1/health/live").status_code == 200
        assert_problem(gateway.get("/api/v1/health/ready"), 503, "unavailable")
        assert gateway.get("/api/v1/health/all").json()["status"] == "draining"


@pytest.mark.parametrize("name", ["live", "ready"])
def test_health_is_asked_by_get_or_head(gateway: Running, name: str) -> None:
    url = f"{gateway.url}/api/v1/health/{name}"
    assert (httpx.head(url).status_code, httpx.head(url).content) == (200, b"")
    assert_problem(httpx.post(url), 405, "method_not_allowed")


# --- metrics and documentation ---


def test_metrics_are_labelled_by_template() -> None:
    with running() as gateway:
        for path in ("/api/v1/jobs/7", "/api/v1/jobs/8", "/api/v1/auth/items", "/api/v1/nowhere/9", "/api/v2/x/y"):
            gateway.get(path)
        text = gateway.get("/metrics").text
    counts = [line for line in text.splitlines() if line.startswith("http_requests_total{")]
    assert sorted(counts) == [
        'http_requests_total{handler="/api/v1/auth/items",method="GET",status="200"} 1.0',
        'http_requests_total{handler="/api/v1/jobs/{job_id}",method="GET",status="200"} 2.0',
        'http_requests_total{handler="/api/v2",method="GET",status="200"} 1.0',
        'http_requests_total{handler="none",method="GET",status="404"} 1.0',
    ]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_metrics_are_hidden_behind_a_proxy(gateway: Running, header: str) -> None:
    assert_problem(gateway.get("/metrics", headers={header: "127.0.0.1"}), 404, "not_found")


def test_the_document_covers_all_services(gateway: Running) -> None:
    document = gateway.get("/openapi.json").json()
    paths = document["paths"]
    assert {"/api/v1/jobs/{job_id}", "/api/v1/auth/items", "/api/v1/health/all"} <= paths.keys()
    schemas = document["components"]["schemas"]

    def item(path: str) -> Any:
        content = paths[path]["get"]["responses"]["200"]["content"]["application/json"]
        return schemas[content["schema"]["$ref"].rpartition("/")[2]]["properties"]

    assert item("/api/v1/jobs/{job_id}").keys() == {"name"}
    assert item("/api/v1/auth/items").keys() == {"email"}
    assert paths["/api/v1/videos"]["post"]["security"] == [{"login": []}]
    login = document["components"]["securitySchemes"]["login"]
    assert login["flows"]["password"]["tokenUrl"] == "/api/v1/auth/token"


def test_the_documentation_page_needs_nobody_else(gateway: Running) -> None:
    page = gateway.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    for name, kind in (("swagger-ui-bundle.js", "javascript"), ("swagger-ui.css", "css"), ("start.js", "javascript")):
        assert f'"/docs/{name}"' in page.text
        asset = gateway.get(f"/docs/{name}")
        assert asset.status_code == 200
        assert kind in asset.headers["content-type"]
