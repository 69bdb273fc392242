"""For tests of the command line: running it in-process, a server that misbehaves on demand, a proxy that cuts."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import StreamingResponse

from fiapx.cli.main import app
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import AuthRequired, FiapxError, InvalidCredentials, InvalidToken, JobFinished, NotFound
from fiapx.server.http import create_app


class Screen(io.TextIOWrapper):
    """A stream in memory that may claim to be a terminal."""

    def __init__(self, text: str = "", *, tty: bool = False) -> None:
        super().__init__(io.BytesIO(text.encode("utf-8", "surrogateescape")), encoding="utf-8", write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def bytes(self) -> bytes:
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue()


@dataclass
class Ran:
    """What one command line did."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*args: str, env: Mapping[str, str] | None = None, stdin: str = "", tty: bool = False) -> Ran:
    """Run ``fiapx ARGS`` in this process."""
    out, err = Screen(tty=tty), Screen(tty=tty)
    code = app(list(args), Terminal(Screen(stdin, tty=tty), out, err, env or {}))
    return Ran(code, out.bytes(), err.bytes().decode())


def video(id_: str, name: str, size: int, sha256: str = "0") -> dict[str, Any]:
    """A video as the API shows it."""
    return {"id": id_, "name": name, "size": size, "sha256": sha256, "created_at": "2026-01-02T03:04:05Z"}


@dataclass
class Fake:
    """The server's contract, as far as the client's error paths need it. Refresh tokens have no grace: a replay ends
    the session, so that a client which races against itself is found out."""

    url: str = ""
    result: bytes = b"PK" * 50_000
    promised_sha256: str | None = None
    resumable: bool = True
    streams: bool = True
    access: set[str] = field(default_factory=set)
    refresh: set[str] = field(default_factory=set)
    refreshes: int = 0
    uploads: list[tuple[str | None, dict[str, str], str, str]] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    failing: list[Response | FiapxError] = field(default_factory=list)
    """Answers given to the next requests, whatever they are."""
    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The states that each job goes through; the last one stays."""
    videos: dict[str, dict[str, Any]] = field(default_factory=lambda: {"v1": video("v1", "a\x1b[31m.mp4", 1234567)})
    submitted: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of jobs for videos that are there."""
    requests: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The Idempotency-Key of each request to make a job, whatever became of it."""

    def reset(self) -> None:
        """As new, at the same address."""
        vars(self).update(vars(Fake(url=self.url)))

    def pair(self) -> dict[str, str]:
        access, refresh = secrets.token_hex(), secrets.token_hex()
        self.access.add(access)
        self.refresh.add(refresh)
        return {"access_token": access, "refresh_token": refresh, "token_type": "bearer"}

    def job(self, id_: str, *states: str, name: str = "clip.mp4", **extra: Any) -> dict[str, Any]:
        sha256 = self.promised_sha256 or hashlib.sha256(self.result).hexdigest()
        result = {"frames": 3, "size": len(self.result), "sha256": sha256, "engine": "fast"}
        base = {"id": id_, "attempt": 1, "video": {"id": f"v-{id_}", "name": name}, "options": {}, "warnings": []}
        base |= {"created_at": "2026-01-02T03:04:05Z"} | extra
        states = states or ("completed",)
        self.jobs[id_] = [base | {"state": s, "result": result if s == "completed" else None} for s in states]
        return self.jobs[id_][0]

    def step(self, id_: str) -> dict[str, Any]:
        if id_ not in self.jobs:
            raise NotFound
        steps = self.jobs[id_]
        return steps.pop(0) if len(steps) > 1 else steps[0]

    def check(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            raise AuthRequired
        if token not in self.access:
            raise InvalidToken


def fake_app(fake: Fake) -> FastAPI:
    api = create_app("fake")

    @api.middleware("http")
    async def fail(request: Request, call_next: Any) -> Any:
        fake.requests.append(f"{request.method} {request.url.path.removeprefix('/api/v1')}")
        if key := request.headers.get("idempotency-key"):
            fake.keys.append(key)
        if fake.failing:
            async for _ in request.stream():
                pass
            answer = fake.failing.pop(0)
            if isinstance(answer, FiapxError):
                from fiapx.server.http import error_response

                return error_response(answer)
            return answer
        return await call_next(request)

    @api.post("/api/v1/auth/token")
    async def token(request: Request) -> Any:
        form = await request.form()
        if form["password"] != "correct horse":
            raise InvalidCredentials
        return fake.pair()

    @api.post("/api/v1/auth/register", status_code=201)
    async def register(request: Request) -> Any:
        body = await request.json()
        return {"id": "u1", "email": body["email"], "created_at": "2026-01-01T00:00:00Z"}

    @api.post("/api/v1/auth/refresh")
    async def refresh(request: Request) -> Any:
        offered = (await request.json())["refresh_token"]
        if offered not in fake.refresh:
            fake.refresh.clear()
            fake.access.clear()
            raise InvalidToken
        fake.refresh.remove(offered)
        fake.refreshes += 1
        return fake.pair()

    @api.post("/api/v1/auth/logout", status_code=204)
    def logout(request: Request) -> None:
        fake.check(request)
        fake.access.clear()

    @api.post("/api/v1/auth/password", status_code=204)
    async def password(request: Request) -> None:
        fake.check(request)
        if (await request.json())["current_password"] != "correct horse":
            raise InvalidCredentials

    @api.get("/api/v1/auth/me")
    def me(request: Request) -> Any:
        fake.check(request)
        return {"id": "u1", "email": "a@b.co"}

    @api.get("/api/v1/health/live")
    def live() -> Any:
        return {"status": "ok"}

    @api.post("/api/v1/jobs", status_code=201)
    async def create(request: Request, idempotency_key: str | None = Header(None)) -> Any:
        fake.check(request)
        if request.headers["content-type"] == "application/json":
            wanted = await request.json()
            if wanted["video_id"] not in fake.videos:
                raise NotFound
            fake.submitted.append(wanted)
            video, lender = fake.videos[wanted["video_id"]], None if wanted["fresh"] else "j0"
            return fake.job(f"j{len(fake.jobs) + 1}", "completed", name=video["name"], reused_from=lender)
        async with request.form() as form:
            upload = form["file"]
            assert not isinstance(upload, str)
            fields = {key: str(value) for key, value in form.items() if key != "file"}
            name = upload.filename or ""
            fake.uploads.append((idempotency_key, fields, name, hashlib.sha256(await upload.read()).hexdigest()))
        states = ("failed",) if name.startswith("bad") else ("queued", "running", "completed")
        extra = {"error": {"code": "corrupt_media", "message": "It is damaged."}} if name.startswith("bad") else {}
        return fake.job(f"j{len(fake.jobs) + 1}", *states, name=name, **extra)

    @api.get("/api/v1/jobs")
    def jobs(request: Request, limit: int, cursor: int = 0, state: str | None = None) -> Any:
        fake.check(request)
        every = [steps[0] for steps in fake.jobs.values() if state in {None, steps[0]["state"]}]
        more = cursor + limit < len(every)
        return {"items": every[cursor : cursor + limit], "next_cursor": str(cursor + limit) if more else None}

    @api.get("/api/v1/jobs/{job_id}")
    def job(request: Request, job_id: str) -> Any:
        fake.check(request)
        return fake.step(job_id)

    @api.get("/api/v1/jobs/{job_id}/events")
    def events(request: Request, job_id: str) -> Response:
        fake.check(request)
        if not fake.streams:
            return Response("<html>", media_type="text/html")

        def flow() -> Iterator[str]:
            while True:
                now = fake.step(job_id)
                yield f": ping\n\nevent: job\ndata: {json.dumps(now)}\n\n"
                if now["state"] in {"completed", "failed", "cancelled"}:
                    return

        return StreamingResponse(flow(), media_type="text/event-stream")

    @api.post("/api/v1/jobs/{job_id}/cancel")
    def cancel(request: Request, job_id: str) -> Any:
        fake.check(request)
        if fake.step(job_id)["state"] == "completed":
            raise JobFinished
        return fake.job(job_id, "cancelled")

    @api.post("/api/v1/jobs/{job_id}/retry", status_code=201)
    def retry(request: Request, job_id: str) -> Any:
        fake.check(request)
        fake.step(job_id)
        return fake.job("again", "queued", "completed", retry_of=job_id)

    @api.delete("/api/v1/{kind}/{id_}", status_code=204)
    def delete(request: Request, kind: str, id_: str) -> None:
        fake.check(request)
        known = id_ in fake.jobs if kind == "jobs" else id_ in fake.videos
        if not known:
            raise NotFound
        fake.jobs.pop(id_, [])

    @api.get("/api/v1/videos")
    def videos(request: Request, limit: int, size: int | None = None) -> Any:
        fake.check(request)
        found = [video for video in fake.videos.values() if size in {None, video["size"]}]
        return {"items": found[:limit], "next_cursor": None}

    @api.get("/api/v1/videos/{video_id}")
    def one_video(request: Request, video_id: str) -> Any:
        fake.check(request)
        if video_id not in fake.videos:
            raise NotFound
        return fake.videos[video_id]

    @api.get("/api/v1/jobs/{job_id}/result")
    def result(request: Request, job_id: str) -> Response:
        fake.check(request)
        wanted, etag = request.headers.get("range"), f'"{fake.jobs[job_id][0]["result"]["sha256"]}"'
        fake.ranges.append(wanted)
        if not (wanted and fake.resumable and request.headers.get("if-range") == etag):
            return Response(fake.result, headers={"ETag": etag})
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(fake.result) - 1}/{len(fake.result)}"
        return Response(fake.result[start:], 206, headers={"ETag": etag, "Content-Range": span})

    return api


@contextmanager
def serving(api: FastAPI) -> Iterator[str]:
    """The address of a real uvicorn that serves `api` on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@dataclass
class Cutter:
    """A proxy in front of `target`. Each connection is cut after so many bytes in one direction (None: never), or gets
    one of `answers` instead."""

    target: str
    up: list[int | None] = field(default_factory=list)
    down: list[int | None] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    connections: int = 0

    @contextmanager
    def open(self) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)

    def _accept(self, listener: socket.socket) -> None:
        host, _, port = self.target.removeprefix("http://").partition(":")
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.answers:
                threading.Thread(target=_say, args=(client, self.answers.pop(0)), daemon=True).start()
                continue
            server = socket.create_connection((host, int(port)))
            limits = self.up.pop(0) if self.up else None, self.down.pop(0) if self.down else None
            threading.Thread(target=_forward, args=(client, server, *limits), daemon=True).start()


def _say(client: socket.socket, answer: bytes) -> None:
    """Read on until the other side has had enough: closing on it might destroy the answer."""
    with client, suppress(OSError):
        client.recv(65536)
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            continue


def _forward(client: socket.socket, server: socket.socket, up: int | None, down: int | None) -> None:
    with client, server:
        back = threading.Thread(target=_pump, args=(server, client, down))
        back.start()
        _pump(client, server, up)
        back.join()


def _pump(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
    left = sys.maxsize if limit is None else limit
    with suppress(OSError):
        while left and (data := source.recv(min(65536, left))):
            sink.sendall(data)
            left -= len(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def fake_server() -> Iterator[Fake]:
    """A running fake."""
    fake = Fake()
    with serving(fake_app(fake)) as url:
        fake.url = url
        yield fake


def logged_in(fake: Fake, profile: Path, url: str | None = None) -> dict[str, str]:
    """The environment of a user who has logged in."""
    pair = fake.pair()
    tokens = {"access_token": pair["access_token"], "refresh_token": pair["refresh_token"]}
    profile.write_text(json.dumps({"server": url or fake.url, "email": "a@b.co", **tokens}))
    return {"FIAPX_CONFIG": str(profile)}
