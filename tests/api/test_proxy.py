"""The proxy before real servers: bytes, headers, early answers, and what happens when either side goes away."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import structlog

from fiapx.server.proxy import Upstream
from tests.api.upstreams import Served, Service, gateway, scripted, served
from tests.processing_kit import eventually

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def front(service: Service) -> Iterator[Served]:
    with served(service) as upstream, gateway({"/api/v1": Upstream("things", [upstream.url])}) as front:
        yield front


@pytest.fixture
def client(front: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, timeout=20, trust_env=False) as client:
        yield client


def before(front: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", front.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_hundred_requests_take_one_connection(client: httpx.Client, service: Service) -> None:
    service.connections.clear()
    for number in range(100):
        assert client.get(f"/api/v1/things/{number}?q=%2F").json()["name"] == str(number)
    assert len(service.connections) == 1


def test_a_service_may_close_what_is_idle() -> None:
    service = Service()
    with (
        served(service, keep_alive=1) as upstream,
        gateway({"/api/v1": Upstream("things", [upstream.url])}) as front,
        httpx.Client(base_url=front.url) as client,
    ):
        assert client.post("/api/v1/things/1").status_code == 200
        time.sleep(1.2)  # nobody outside sees the connection behind the gateway close
        assert client.post("/api/v1/things/1").status_code == 200
    assert len(service.connections) == 2


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_arrives_whole(client: httpx.Client, chunked: bool) -> None:
    body = bytes(range(256)) * 4096 * 20
    content = iter([body[at : at + MIB] for at in range(0, len(body), MIB)]) if chunked else body
    answer = client.post("/api/v1/videos", content=content).json()
    assert answer == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_an_answer_streams_at_the_readers_pace(front: Served) -> None:
    """Nobody holds what the client does not read."""
    size = 256 * MIB
    with httpx.stream("GET", f"{front.url}/api/v1/download?size={size}", timeout=20) as answer:
        assert answer.headers["content-length"] == str(size)
        assert sum(len(chunk) for chunk in answer.iter_raw()) == size


def test_a_service_learns_who_asks_and_nothing_that_clients_invent(client: httpx.Client, service: Service) -> None:
    client.get(
        "/api/v1/things/1",
        headers={
            "X-Forwarded-For": "6.6.6.6",
            "X-Real-IP": "6.6.6.6",
            "Forwarded": "for=6.6.6.6",
            "X-Request-ID": "abc",
            "Connection": "keep-alive, X-Private",
            "X-Private": "1",
            "TE": "trailers",
            "traceparent": "00-1-2-01",
            "Host": "example.org",
        },
    )
    headers = service.headers
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-host"]) == ("http", "example.org")
    assert (headers["host"], headers["x-request-id"], headers["traceparent"]) == ("example.org", "abc", "00-1-2-01")
    assert not {"x-real-ip", "forwarded", "connection", "x-private", "te"} & set(headers)


def test_answers_without_a_body(client: httpx.Client) -> None:
    head = client.head("/api/v1/things/1")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "21")
    for status in (204, 304):
        answer = client.get(f"/api/v1/empty/{status}")
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (status, b"", '"x"')
    assert len(client.get("/api/v1/things/1").headers.get_list("date")) == 1


def test_an_early_answer_arrives_while_the_body_is_still_coming(client: httpx.Client) -> None:
    size = 64 * MIB
    answer = client.post(
        "/api/v1/refused", content=iter([b"x" * MIB] * 64), headers={"Content-Length": str(size), "Expect": ""}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(("path", "status"), [("refused", b"413"), ("videos", b"100")])
def test_an_expectation_is_answered_by_the_service(front: Served, path: str, status: bytes) -> None:
    """A client that waits for a go-ahead sends nothing in vain."""
    with before(front) as connection:
        head = f"POST /api/v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n"
        connection.sendall(head.encode() + b"Content-Type: video/mp4\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)
        if status == b"100":
            connection.sendall(b"123456789")
            assert b'"size":9' in connection.recv(65536)


def test_a_client_that_leaves_ends_the_request_and_does_no_harm(front: Served, service: Service) -> None:
    service.cancelled = 0
    for _ in range(5):
        service.requests.clear()
        with before(front) as connection:
            connection.sendall(b"GET /api/v1/slow HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: service.asked == ["GET /api/v1/slow"])
    eventually(lambda: service.cancelled == 5)
    assert httpx.get(front.url + "/api/v1/things/1").status_code == 200


def test_a_client_that_leaves_in_a_body_does_no_harm(front: Served) -> None:
    for _ in range(5):
        with before(front) as connection:
            head = b"POST /api/v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n"
            connection.sendall(head + b"Content-Length: 9999999\r\n\r\nab")
    assert httpx.get(front.url + "/api/v1/things/1").status_code == 200


@pytest.mark.parametrize(
    ("head", "reset"),
    [
        (b"Content-Length: 10\r\n\r\nhalf", False),
        (b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", False),
        (b"Connection: close\r\n\r\nhalf", True),
    ],
)
def test_a_service_that_dies_in_an_answer_cuts_it(head: bytes, reset: bool) -> None:
    with (
        scripted(b"HTTP/1.1 200 OK\r\n" + head, reset=reset) as url,
        gateway({"/api/v1": Upstream("things", [url])}) as front,
        structlog.testing.capture_logs(),
        pytest.raises(httpx.RemoteProtocolError),
    ):
        httpx.get(front.url + "/api/v1/things/1")


def test_clients_that_leave_take_no_connection_with_them() -> None:
    """Whenever they leave: before an answer, in the middle of one, or just as it ends."""
    with served(Service()) as server:
        upstream = Upstream("things", [server.url])
        with gateway({"/api/v1": upstream}) as front, ThreadPoolExecutor(20) as crowd:

            def leave(number: int) -> None:
                path = ("things/1", "events", "download?size=99942400", "things/2")[number % 4]
                with before(front) as connection:
                    connection.sendall(f"GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    time.sleep(number % 50 / 1000)

            list(crowd.map(leave, range(400)))
            eventually(lambda: all(connection.is_idle() for connection in upstream._pool.connections))


def test_event_streams_end_with_the_reader_and_with_the_server() -> None:
    service, draining = Service(), threading.Event()
    with (
        served(service) as upstream,
        gateway({"/api/v1": Upstream("things", [upstream.url], bulkhead=2, patience=0.1)}, draining) as front,
    ):
        streams = [httpx.Client(timeout=10) for _ in range(5)]
        open_streams = [
            stack.send(stack.build_request("GET", front.url + "/api/v1/events"), stream=True) for stack in streams
        ]
        assert httpx.get(front.url + "/api/v1/things/1").status_code == 200  # streams hold no slot
        open_streams[0].close()
        eventually(lambda: service.cancelled == 1)
        draining.set()
        for stream in open_streams[1:]:
            assert stream.read().endswith(b"\n\n")
        for stack in streams:
            stack.close()
        eventually(lambda: service.cancelled == 5)


def test_a_silent_answer_is_given_up() -> None:
    started = time.monotonic()
    with (
        scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as url,
        gateway({"/api/v1": Upstream("things", [url], header_timeout=0.3)}) as front,
        structlog.testing.capture_logs(),
        pytest.raises(httpx.RemoteProtocolError),
    ):
        httpx.get(front.url + "/api/v1/things/1")
    assert time.monotonic() - started < 5
