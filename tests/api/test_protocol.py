"""Heads of requests that never end, on a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from fiapx.server.protocol import MAX_HEAD, BoundedHttp

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


class Hasty(BoundedHttp):
    head_seconds = 0.4


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/")
    def nothing() -> None:
        return None

    @app.get("/slow")
    def slow() -> str:
        time.sleep(0.8)
        return "done"

    return app


@pytest.fixture
def port() -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(application(), http=Hasty, ws="none", lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield int(listener.getsockname()[1])
        server.should_exit = True
        thread.join()


def answers(port: int, *parts: bytes, pause: float = 0) -> bytes:
    """What comes back, to the end of the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
            while data := client.recv(65536):
                received += data
        except ConnectionError:
            pass
    return received


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /",
        HEAD + b"X-Long: ",
        HEAD + b"X: y\r\n" * 5000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4;extension=",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Trailer: ",
    ],
    ids=["target", "header", "headers", "chunk line", "trailer"],
)
def test_an_endless_head_ends_the_connection(port: int, beginning: bytes) -> None:
    got = answers(port, beginning, *[b"a" * MAX_HEAD] * 40)
    assert got == b"" or got.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_a_large_head_is_told_why(port: int) -> None:
    assert answers(port, HEAD + b"X-Long: " + b"a" * MAX_HEAD).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("parts", [(), (b"GET / HT",), (b"\r\n",)], ids=["silent", "partial", "blank"])
def test_a_head_that_does_not_come_is_not_waited_for(port: int, parts: tuple[bytes, ...]) -> None:
    assert answers(port, *parts).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_drips_is_not_waited_for(port: int) -> None:
    began = time.monotonic()
    got = answers(port, *(bytes([byte]) for byte in HEAD), pause=0.1)
    assert got.startswith(b"HTTP/1.1 408 ") or got == b""  # the reset of a late write may overtake it
    assert time.monotonic() - began < 2


def test_each_further_request_has_its_own_time(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(3):
            client.sendall(HEAD + b"\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.25)
        client.sendall(b"GET / HT")
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_neither_a_slow_answer_nor_a_large_body_is_a_late_head(port: int) -> None:
    close = b"Host: x\r\nConnection: close\r\n"
    assert answers(port, b"GET /slow HTTP/1.1\r\n" + close + b"\r\n").endswith(b'"done"')
    body = b"a" * (MAX_HEAD * 4)
    head = b"POST / HTTP/1.1\r\n" + close + f"Content-Length: {len(body)}\r\n\r\n".encode()
    middle = len(body) // 2
    assert answers(port, head + body[:middle], body[middle:], pause=0.3).endswith(str(len(body)).encode())
