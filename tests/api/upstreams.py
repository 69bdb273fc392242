"""Real services on free ports, for what stands in front of them: they can be counted, stopped, silent or broken."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.server.gateway.app import create_gateway
from fiapx.server.proxy import Proxy, Upstream
from tests.processing_kit import eventually


class Served:
    """An app behind uvicorn on a thread. It can be stopped before the end, and served again at the same port."""

    def __init__(self, app: ASGIApp, *, lifespan: bool = False, port: int = 0, keep_alive: int = 5) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            lifespan="on" if lifespan else "off",
            timeout_keep_alive=keep_alive,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        eventually(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


@contextmanager
def served(app: ASGIApp, **options: Any) -> Iterator[Served]:
    server = Served(app, **options)
    try:
        yield server
    finally:
        server.stop()


class Service:
    """A service that counts requests and connections, and remembers the last request's scope."""

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.requests: list[str] = []
        self.connections: set[tuple[str, int]] = set()
        self.headers: dict[str, str] = {}
        self.cancelled = 0
        self.status = 200
        self.answer_headers: dict[str, str] = {}
        self.hold = threading.Event()
        self.health: dict[str, Any] = {"status": "ok", "checks": {}}
        self._app = _app(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.requests.append(f"{scope['method']} {scope['path']}")
            self.connections.add(scope["client"])
            self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        await self._app(scope, receive, send)

    @property
    def asked(self) -> list[str]:
        """Requests other than those about its health."""
        return [request for request in self.requests if "/health/" not in request]


def _app(service: Service) -> FastAPI:
    app = FastAPI()

    @app.api_route("/api/v1/things/{name}", methods=["GET", "HEAD", "POST"])
    async def thing(name: str) -> Response:
        return JSONResponse({"name": name, "by": service.name}, service.status, service.answer_headers)

    @app.post("/api/v1/videos")
    async def upload(request: Request) -> dict[str, Any]:
        size, digest = 0, hashlib.sha256()
        async for chunk in request.stream():
            size += len(chunk)
            digest.update(chunk)
        return {"size": size, "sha256": digest.hexdigest()}

    @app.post("/api/v1/refused")
    async def refuse() -> Response:
        """Refuses before it reads, and never reads."""
        return JSONResponse({"code": "payload_too_large"}, 413)

    @app.get("/api/v1/download")
    async def download(size: int) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(size // 65536):
                yield b"\0" * 65536

        return StreamingResponse(parts(), headers={"Content-Length": str(size)}, media_type="application/zip")

    @app.get("/api/v1/events")
    async def events() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"data: tick\n\n"
                    await asyncio.sleep(0.1)
            finally:
                service.cancelled += 1

        return StreamingResponse(parts(), media_type="text/event-stream")

    @app.api_route("/api/v1/slow", methods=["GET", "POST"])
    async def slow(request: Request) -> Response:
        while not service.hold.is_set():
            if await request.is_disconnected():
                service.cancelled += 1
                break
            await asyncio.sleep(0.01)
        return JSONResponse({"by": service.name}, headers=service.answer_headers)

    @app.get("/api/v1/empty/{status}")
    async def empty(status: int) -> Response:
        return Response(status_code=status, headers={"ETag": '"x"'})

    @app.get("/api/v1/text")
    async def text(kind: str, size: int) -> Response:
        return Response(b"abcdefgh" * (size // 8), media_type=kind)

    @app.get("/api/v1/health/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/v1/health/all")
    async def health() -> Response:
        return JSONResponse(service.health, 200 if service.health["status"] == "ok" else 503)

    return app


@contextmanager
def blackhole() -> Iterator[str]:
    """A URL that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def scripted(*answers: bytes, reset: bool = False) -> Iterator[str]:
    """A URL whose connections get these bytes in turn, once they have sent something, and are then closed, or `reset` a
    moment later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if reset:
                        time.sleep(0.2)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def gateway(
    mounts: Mapping[str, Upstream], draining: threading.Event | None = None, **options: Any
) -> Iterator[Served]:
    """A gateway before upstreams."""
    draining = draining or threading.Event()
    app = create_gateway(
        mounts={prefix: Proxy(upstream, draining) for prefix, upstream in mounts.items()},
        checks=options.pop("checks", {}),
        registry=options.pop("registry", CollectorRegistry()),
        draining=draining,
        **options,
    )
    with served(app, lifespan=True) as server:
        yield server
        draining.set()
