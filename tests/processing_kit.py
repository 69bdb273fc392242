"""A whole processing service on a folder, for tests: real database, real storage, real HTTP."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import socket
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, select
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.adapters.bus_memory import MemoryBus
from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.adapters.partials_disk import DiskPartials
from fiapx.adapters.partials_objects import ObjectPartials
from fiapx.adapters.storage_disk import DiskStorage
from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Cache, Identity, Partials, Storage
from fiapx.media.model import Result
from fiapx.server.aside import CacheAside
from fiapx.server.identity import AUDIENCE, ISSUER, Verifier
from fiapx.server.processing import tables
from fiapx.server.processing.admission import Admission
from fiapx.server.processing.api.app import create_processing_app
from fiapx.server.processing.commands import Commands
from fiapx.server.processing.leases import Leases
from fiapx.server.processing.maintenance import Maintenance
from fiapx.server.processing.metrics import ProcessingMetrics
from fiapx.server.processing.model import Claim, NewVideo
from fiapx.server.processing.queries import Queries
from fiapx.server.processing.reads import Reads
from fiapx.server.processing.replica import ReplicaReads
from fiapx.server.processing.store import Store
from fiapx.server.processing.transitions import Transitions
from fiapx.server.processing.uploads.service import Uploads
from fiapx.server.processing.uploads.store import UploadStore
from fiapx.server.relay import Relay

ANA = Identity("11111111-1111-4111-8111-111111111111", "ana@example.com", "s-ana")
BOB = Identity("22222222-2222-4222-8222-222222222222", "bob@example.com", "s-bob")
KILO = 1024


class Tokens:
    """Auth's part: signs access tokens, and says that every session is alive, except for those in `ended`."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self._key = Ed25519PrivateKey.generate()

    def jwks(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": "k1", "use": "sig", "alg": "EdDSA"}]}

    def active(self, session_id: str, _token: str) -> bool:
        return session_id not in self.ended

    def token(self, user: Identity) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 600,
            "sub": user.user_id,
            "sid": user.session_id,
            "email": user.email,
            "typ": "access",
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "k1"})


class Processing:
    """Every part of the service, wired as in one process."""

    def __init__(
        self,
        root: Path,
        *,
        lease: float = 30,
        max_upload_bytes: int = 4 * KILO * KILO,
        upload_ttl: float = 3600,
        cache: Cache | None = None,
        engine: Engine | None = None,
        replica: Engine | None = None,
        user_jobs: int = 1000,
        queue_jobs: int = 1000,
        storage: Storage | None = None,
        presign: float = 0,
    ) -> None:
        self.root = root / "storage"
        self._numbers = itertools.count()
        self.engine = engine or open_database(sqlite_url(root / "processing.db"))
        migrate(self.engine, "processing")
        self.storage: Storage = storage or DiskStorage(self.root)
        self.cache: Cache = cache or MemoryCache()
        self.bus = MemoryBus()
        self.wake = threading.Event()
        self.transitions = transitions = Transitions(self.engine, self.wake, "engine 1", self.cache)
        self.store = Store(transitions)
        self.leases = Leases(transitions, lease=lease, retry_delay=0, worker="host:1")
        self.registry = CollectorRegistry()
        self.reads = (
            ReplicaReads(self.engine, replica, self.cache, self.registry, rest=0.2) if replica else Reads(self.engine)
        )
        self.metrics = ProcessingMetrics(self.registry, self.reads)
        self.admission = Admission(self.reads, user_jobs=user_jobs, queue_jobs=queue_jobs)
        self.partials: Partials = ObjectPartials(storage) if storage else DiskPartials(self.root)
        self.commands = Commands(
            self.store, self.storage, self.partials, self.admission, on_upload=self.metrics.uploaded
        )
        self.queries = Queries(self.reads, self.storage, self.cache, aside=CacheAside(self.cache, self.registry))
        self.upload_store = UploadStore(transitions, self.store, upload_ttl)
        self.uploads = Uploads(
            self.upload_store, self.commands, self.storage, self.partials, on_upload=self.metrics.uploaded
        )
        self.maintenance = Maintenance(self.store, self.leases, self.uploads, self.storage, sweep_age=0)
        self.relay = Relay(self.store.outbox, self.bus, self.wake, interval=0.1)
        self.tokens = Tokens()
        self.draining = threading.Event()
        self.app = create_processing_app(
            self.commands,
            self.queries,
            self.uploads,
            self.storage,
            Verifier(self.tokens.jwks, self.tokens),
            max_upload_bytes=max_upload_bytes,
            draining=self.draining,
            presign=presign,
        )

    def close(self) -> None:
        self.bus.close()
        self.engine.dispose()

    def stored_video(self, content: bytes = b"video bytes", name: str = "clip.mp4") -> NewVideo:
        video = NewVideo(str(uuid.uuid4()), name, len(content), hashlib.sha256(content).hexdigest())
        with self.storage.create(video.storage_key) as writer:
            writer.write(content)
            writer.commit()
        return video

    def queue_job(
        self,
        user: Identity = ANA,
        options: ExtractOptions | None = None,
        name: str = "clip.mp4",
        content: bytes | None = None,
    ) -> str:
        """A job of a video like no other, unless its content is given."""
        video = self.stored_video(content or b"video %05d" % next(self._numbers), name)
        return self.commands.accept_upload(user, video, options or ExtractOptions(), None).id

    def claim(self) -> Claim:
        claim = self.leases.claim()
        assert claim is not None
        return claim

    def complete(self, claim: Claim, archive: Archive | None = None) -> Archive:
        archive = archive or Archive.of(3)
        with self.storage.create(claim.result_key) as writer:
            writer.write(archive.content)
            writer.commit()
        self.leases.complete(claim, archive.result)
        return archive

    def objects(self) -> list[str]:
        """Every file in storage, finished or not."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def row(self, job_id: str) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(select(tables.jobs).where(tables.jobs.c.id == job_id)).one()

    def count(self, table: Any = tables.jobs) -> int:
        with self.engine.connect() as connection:
            return len(connection.execute(select(table)).all())

    def events(self, subject: str | None = None) -> list[str]:
        """Types of the events in the outbox, in order."""
        query = select(tables.outbox.c.type).order_by(tables.outbox.c.seq)
        if subject:
            query = query.where(tables.outbox.c.subject == subject)
        with self.engine.connect() as connection:
            return list(connection.scalars(query))

    def client(self, url: str, user: Identity | None = ANA) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens.token(user)}"} if user else {}
        return httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False)


@dataclass(frozen=True)
class Archive:
    """A result as the engine makes it: a ZIP of stored entries with a manifest that knows their offsets."""

    content: bytes
    result: Result
    images: tuple[bytes, ...]

    @classmethod
    def of(cls, frames: int) -> Archive:
        images = tuple(f"picture {number} ".encode() * 50 for number in range(1, frames + 1))
        buffer = io.BytesIO()
        entries = []
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for number, image in enumerate(images, 1):
                name = f"frame_{number:06}.jpg"
                archive.writestr(name, image)
                entries.append(_entry(number, name, image, buffer.tell() - len(image)))
            manifest = json.dumps({"frames": entries}).encode()
            archive.writestr("manifest.json", manifest)
            offset = buffer.tell() - len(manifest)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        return cls(content, Result(frames, len(content), digest, offset, len(manifest), "fast"), images)


def _entry(number: int, name: str, image: bytes, offset: int) -> dict[str, Any]:
    return {
        "index": number,
        "file": name,
        "bytes": len(image),
        "offset": offset,
        "sha256": hashlib.sha256(image).hexdigest(),
    }


@contextmanager
def processing(root: Path, **options: Any) -> Iterator[Processing]:
    service = Processing(root, **options)
    try:
        yield service
    finally:
        service.close()


class Host:
    """A real server on a free port, whose application tests exchange: starting one takes longer than most tests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)

    @contextmanager
    def serve(self, app: ASGIApp) -> Iterator[str]:
        self.app = app
        yield self.url


@contextmanager
def hosting() -> Iterator[Host]:
    listener = socket.create_server(("127.0.0.1", 0))
    host = Host(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(host, log_level="warning", http="httptools", lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        eventually(lambda: server.started)
        yield host
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def eventually(true: Callable[[], bool], timeout: float = 60) -> None:
    """Wait until something has come true. Patience costs nothing where it does: the machine may be busy."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)
