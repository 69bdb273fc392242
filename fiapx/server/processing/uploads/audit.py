"""Proof that the books of uploads on their way are right: every row against its bytes, all bytes against their rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from sqlalchemy import Engine, and_, func, select

from fiapx.core.ports import Partials, Storage
from fiapx.server.processing.faults import Fault
from fiapx.server.processing.model import video_key
from fiapx.server.processing.store import unfinished
from fiapx.server.processing.tables import uploads
from fiapx.server.processing.uploads.model import Upload
from fiapx.server.sql import ago

_BATCH: Final = 500
_STORING: Final = 900
"""Seconds after its last byte in which an upload should have become a video, even where its bytes have to be copied."""


class UploadAudit:
    """`orphan_age` in seconds: younger bytes may be of an upload that ends right now."""

    def __init__(self, engine: Engine, storage: Storage, partials: Partials, orphan_age: float) -> None:
        self._engine = engine
        self._storage = storage
        self._partials = partials
        self._orphan_age = orphan_age

    def faults(self) -> Iterator[Fault]:
        """What is wrong with them. Raises Unavailable."""
        yield from self._missing()
        yield from self._orphans()
        yield from self._stuck()

    def _missing(self) -> Iterator[Fault]:
        for upload in self._begun():
            now = None if self._there(upload) else self._again(upload.id)
            if now and not self._there(now) and self._again(now.id) == now:  # it neither ended nor went on meanwhile
                yield Fault("missing", f"upload {now.id}", f"its first {now.offset} bytes are not there")

    def _begun(self) -> Iterator[Upload]:
        """All that have bytes and are no videos yet, a batch a transaction."""
        last = ""
        while True:
            begun = and_(uploads.c.finished_ms.is_(None), uploads.c.offset > 0, uploads.c.id > last)
            with self._engine.connect() as connection:
                rows = connection.execute(select(uploads).where(begun).order_by(uploads.c.id).limit(_BATCH))
                batch = [Upload(**row) for row in rows.mappings()]
            yield from batch
            if len(batch) < _BATCH:
                return
            last = batch[-1].id

    def _again(self, upload_id: str) -> Upload | None:
        same = and_(uploads.c.id == upload_id, uploads.c.finished_ms.is_(None))
        with self._engine.connect() as connection:
            row = connection.execute(select(uploads).where(same)).mappings().one_or_none()
        return Upload(**row) if row is not None else None

    def _there(self, upload: Upload) -> bool:
        """On their way, or already in the place of the video that they become."""
        if self._partials.holds(upload.id, upload.offset):
            return True
        key = video_key(upload.id)
        return upload.full and any(found == key for found, _ in self._storage.list(key))

    def _orphans(self) -> Iterator[Fault]:
        old = (upload_id for upload_id, age in self._partials.pending() if age >= self._orphan_age)
        while batch := set(islice(old, _BATCH)):
            with self._engine.connect() as connection:
                batch -= unfinished(connection, batch)
            for upload_id in sorted(batch):
                yield Fault("orphan", f"uploads/{upload_id}", "no upload names it")

    def _stuck(self) -> Iterator[Fault]:
        full = and_(uploads.c.finished_ms.is_(None), uploads.c.offset == uploads.c.size)
        since = func.coalesce(uploads.c.full_ms, uploads.c.touched_ms)
        with self._engine.connect() as connection:
            for upload_id in connection.scalars(select(uploads.c.id).where(full, since < ago(_STORING))):
                yield Fault("stuck", f"upload {upload_id}", "all its bytes have come, and it becomes no video")
