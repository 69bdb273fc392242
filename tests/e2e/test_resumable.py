"""Resumable uploads with the installed command and real processes that are killed: no byte is lost, none is doubled."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from fiapx.adapters.db import Service, migrate, open_database
from fiapx.adapters.storage_s3 import S3Storage
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.redis import PrivateRedis
from scripts.stack import RoleProcess
from tests.e2e.kit import FIAPX, Account, Server, environment
from tests.postgres import empty
from tests.processing_kit import eventually
from tests.s3 import KEY, s3_bucket

MIB = 1024 * 1024
KILLS = int(os.environ.get("FIAPX_KILLS", "10"))
SIZE = int(os.environ.get("FIAPX_RESUME_MB", "80")) * MIB + 12_345
S3_KILLS = int(os.environ.get("FIAPX_KILLS", "2"))
S3_SIZE = int(os.environ.get("FIAPX_RESUME_MB", "40")) * MIB + 12_345
SERVICES: tuple[Service, ...] = ("auth", "processing")
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No video, but bytes like no others."""
    path = tmp_path_factory.mktemp("big") / "big.mp4"
    dice = random.Random(1)
    with path.open("wb") as file:
        for start in range(0, SIZE, MIB):
            file.write(dice.randbytes(min(MIB, SIZE - start)))
    return path


@pytest.fixture(scope="module")
def sha256(big: Path) -> str:
    return hashlib.sha256(big.read_bytes()).hexdigest()


def create(ana: Account, size: int = SIZE) -> str:
    metadata = f"filename {base64.b64encode(b'big.mp4').decode()}"
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
    return str(ana.request("POST", "/uploads", headers=headers).raise_for_status().json()["id"])


def offset(ana: Account, upload_id: str) -> int:
    return int(ana.request("HEAD", f"/uploads/{upload_id}", headers=TUS).raise_for_status().headers["upload-offset"])


def append(ana: Account, upload_id: str, start: int, content: bytes | Killing) -> httpx.Response:
    headers = {**TUS, "Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
    return ana.request("PATCH", f"/uploads/{upload_id}", headers=headers, content=content)


class Services:
    """Auth and processing in a process of their own, which may be killed and started again."""

    def __init__(
        self, folder: Path, postgres: PrivatePostgres, redis: PrivateRedis, storage: Mapping[str, str]
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        for service in SERVICES:
            engine = open_database(postgres.url(service))
            migrate(engine, service)
            empty(engine)  # keys that others have made are encrypted by another secret
            engine.dispose()
        settings = environment(
            folder,
            FIAPX_SECRET_KEY=secrets.token_urlsafe(32),
            FIAPX_AUTH_DATABASE_URL=postgres.url("auth"),
            FIAPX_PROCESSING_DATABASE_URL=postgres.url("processing"),
            FIAPX_REDIS_URL=redis.url,
            FIAPX_RABBITMQ_URL=f"amqp://127.0.0.1:{free_port()}/",  # nobody misses it
            FIAPX_AUTH_URLS=self.url,
            **storage,
        )
        command = ["serve", *SERVICES, "--port", str(self.port)]
        self._role = RoleProcess("services", command, settings, lambda _name, _line: None, self.port)

    def start(self, *, port: int) -> None:
        assert port == self.port
        self._role.start()
        self._role.wait()

    def kill(self) -> None:
        self._role.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start(port=self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._role.stop()


class Killing:
    """A body at some point of which the server is killed; it goes on until the client notices."""

    def __init__(self, server: Server | Services, content: bytes, at: int) -> None:
        self._server, self._content, self._at = server, content, at

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), 256 * 1024):
            if start >= self._at:
                break
            yield self._content[start : start + 256 * 1024]
        self._server.kill()
        while True:
            yield bytes(256 * 1024)


def send_through_kills(server: Server | Services, ana: Account, content: bytes, kills: int) -> dict[str, Any]:
    """The video that came of it."""
    dice = random.Random(os.environ.get("FIAPX_SEED", "7"))
    upload_id, port, seen = create(ana, len(content)), server.port, 0
    for _ in range(kills):
        start = offset(ana, upload_id)
        assert start >= seen, "what was recorded stays"
        seen = start
        at = dice.randrange(len(content) - start)
        with pytest.raises(httpx.TransportError):  # without its end it cannot finish
            append(ana, upload_id, start, Killing(server, content[start:-1], at))
        server.start(port=port)
    start = offset(ana, upload_id)
    last = append(ana, upload_id, start, content[start:])
    assert last.status_code == 204, last.text
    eventually(lambda: ana.get(f"/uploads/{upload_id}")["state"] == "finished", timeout=120)
    video = ana.get(f"/videos/{upload_id}")
    assert (video["size"], video["name"]) == (len(content), "big.mp4")
    assert video["sha256"] == hashlib.sha256(content).hexdigest()
    return dict(video)


@pytest.mark.timeout(300)
def test_kills_at_random_offsets(big: Path, sha256: str, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        video = send_through_kills(server, server.account(), big.read_bytes(), KILLS)
        assert server.files() == {f"videos/{video['id']}"}
        stored = (server.home / "storage" / "videos" / video["id"]).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == sha256


@pytest.mark.timeout(600)
def test_kills_at_random_offsets_on_s3(
    big: Path, s3_server: str, postgres_server: PrivatePostgres, redis_server: PrivateRedis, tmp_path: Path
) -> None:
    bucket, content = s3_bucket(s3_server), big.read_bytes()[:S3_SIZE]
    settings = {
        "FIAPX_STORAGE_URL": f"s3://{bucket}/here",
        "FIAPX_S3_ENDPOINT": s3_server,
        "FIAPX_S3_ACCESS_KEY": KEY,
        "FIAPX_S3_SECRET_KEY": KEY,
    }
    storage = S3Storage(bucket, endpoint=s3_server, access_key=KEY, secret_key=KEY, scratch=tmp_path, prefix="here")
    with Services(tmp_path, postgres_server, redis_server, settings) as services:
        ana = Account(services, f"{uuid.uuid4().hex}@example.com")
        try:
            video = send_through_kills(services, ana, content, S3_KILLS)
        finally:
            ana.close()
        eventually(lambda: [key for key, _ in storage.list("")] == [f"videos/{video['id']}"])
        address = storage.address(f"videos/{video['id']}", 60, disposition="inline", media_type="video/mp4")
        assert address is not None
        assert hashlib.sha256(httpx.get(address, timeout=60).content).hexdigest() == video["sha256"]


class Valve:
    """A proxy that lets so many bytes up, over all connections, and then nothing until it is opened."""

    def __init__(self, target: str, limit: int) -> None:
        self.left = limit
        self._target = httpx.URL(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left = sys.maxsize
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((self._target.host, self._target.port or 80))
                except ConnectionRefusedError:
                    client.close()
                    continue
                for pump in (lambda c=client, s=server: self._up(c, s), lambda c=client, s=server: _pump(s, c)):
                    threading.Thread(target=pump, daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                while self.left <= 0:
                    time.sleep(0.01)
                self.left -= len(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with source, sink, suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


class Client:
    """`fiapx upload` as a process of its own."""

    def __init__(self, ana: Account, folder: Path, video: Path, server: str) -> None:
        own = ana.environ | {"FIAPX_SERVER": server, "XDG_STATE_HOME": str(folder / "state")}
        self._process = subprocess.Popen(
            [str(FIAPX), "upload", str(video), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment(folder, **own),
        )

    def job(self) -> tuple[dict[str, Any], str]:
        """The job that was made, and what was said on the way."""
        out, err = self._process.communicate(timeout=90)
        assert self._process.returncode == 0, err
        return dict(json.loads(out)["results"][0]["job"]), err

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def remembered(folder: Path) -> list[Path]:
    return [path for path in (folder / "state").rglob("*") if path.is_file()]


def recorded(ana: Account, folder: Path) -> int:
    """How much the server has of the upload that the client remembers."""
    texts = [path.read_text() for path in remembered(folder)]
    found = [ana.get(f"/uploads/{json.loads(text)['upload_id']}")["offset"] for text in texts if text]
    return int(found[0]) if found else 0


@pytest.mark.timeout(180)
def test_a_client_that_is_killed_goes_on_in_the_next_run(big: Path, sha256: str, tmp_path: Path) -> None:
    with Server(tmp_path) as server, Valve(server.url, 36 * MIB) as valve:
        ana = server.account()
        killed = Client(ana, tmp_path, big, valve.url)
        eventually(lambda: recorded(ana, tmp_path) >= 32 * MIB, timeout=30)
        killed.kill()
        valve.left = sys.maxsize
        job, said = Client(ana, tmp_path, big, valve.url).job()
        assert re.search(r"^big\.mp4: resuming at (4|5|6|7|8|9)\d %$", said, re.MULTILINE)
        assert ana.get(f"/videos/{job['video']['id']}")["sha256"] == sha256
        assert remembered(tmp_path) == []
        again, said = Client(ana, tmp_path, big, valve.url).job()
        assert again["video"]["id"] == job["video"]["id"], "what is there is not sent"
        assert "resuming" not in said


@pytest.mark.timeout(180)
def test_a_client_outlives_its_server_and_its_network(big: Path, sha256: str, tmp_path: Path) -> None:
    with Server(tmp_path) as server, Valve(server.url, 36 * MIB) as valve:
        ana, port = server.account(), server.port
        client = Client(ana, tmp_path, big, valve.url)
        eventually(lambda: recorded(ana, tmp_path) >= 32 * MIB, timeout=30)
        server.kill()
        valve.left = sys.maxsize
        server.start(port=port)
        job, _ = client.job()
        assert ana.get(f"/videos/{job['video']['id']}")["sha256"] == sha256
        eventually(lambda: server.files("uploads") == set())
        assert remembered(tmp_path) == []
