"""Uploads on their way, as objects of a Storage of their own: ``uploads/<id>/<offset>.<epoch>.<length>``.

For S3. Whoever is superseded writes objects that nobody reads: of several at one offset that of the highest epoch
counts. At the end they are streamed into one object. An S3 multipart upload would save that, but parts of it are at
least 5 MiB, its tail needs an object of its own all the same, and an old writer can replace a part of a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from threading import Lock
from types import TracebackType
from typing import Final, Self

from fiapx.core.errors import NotFound
from fiapx.core.ports import Storage

_FOLDER: Final = "uploads"


class ObjectPartials:
    """The Partials port on any Storage that several processes may share."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def append(self, upload_id: str, offset: int, epoch: int, *, force: bool = False) -> ObjectPartialWriter:
        """Never InUse: nobody is in anybody's way here."""
        del force
        self._chain(upload_id, offset)
        return ObjectPartialWriter(self._storage, upload_id, offset, epoch)

    def assemble(self, upload_id: str, key: str, size: int) -> str | None:
        if any(found == key for found, _ in self._storage.list(key)):
            return None
        running = hashlib.sha256()
        with self._storage.create(key) as writer:
            for part in self._chain(upload_id, size):
                for chunk in self._storage.read(part):
                    writer.write(chunk)
                    running.update(chunk)
            writer.commit()
        return running.hexdigest()

    def holds(self, upload_id: str, size: int) -> bool:
        try:
            self._chain(upload_id, size)
        except NotFound:
            return False
        return True

    def discard(self, upload_id: str) -> None:
        for key, _ in list(self._storage.list(f"{_FOLDER}/{upload_id}/")):
            self._storage.delete(key)

    def pending(self) -> Iterator[tuple[str, float]]:
        youngest: dict[str, float] = {}
        for key, age in self._storage.list(f"{_FOLDER}/"):
            upload_id = key.split("/")[1]
            youngest[upload_id] = min(age, youngest.get(upload_id, age))
        yield from youngest.items()

    def _chain(self, upload_id: str, size: int) -> list[str]:
        """The keys of what makes up the first `size` bytes. Raises NotFound."""
        newest: dict[int, tuple[int, int, str]] = {}
        for key, _ in self._storage.list(f"{_FOLDER}/{upload_id}/") if size else ():
            offset, epoch, length = map(int, key.rpartition("/")[2].split("."))
            newest[offset] = max((epoch, length, key), newest.get(offset, (0, 0, "")))
        keys, at = [], 0
        while at < size:
            _, length, key = newest.get(at, (0, 0, ""))
            if not length or at + length > size:
                raise NotFound
            keys.append(key)
            at += length
        return keys


class ObjectPartialWriter:
    """Collects bytes in memory; `sync` stores them as an object."""

    in_memory = True

    def __init__(self, storage: Storage, upload_id: str, offset: int, epoch: int) -> None:
        self._storage, self._upload_id, self._epoch = storage, upload_id, epoch
        self._offset = offset
        self._collected: list[bytes] = []
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._collected.clear()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        with self._lock:
            self._collected.append(bytes(data))
        return len(data)

    def sync(self) -> int:
        with self._lock:
            collected, self._collected = self._collected, []
        if length := sum(map(len, collected)):
            try:
                self._store(collected, length)
            except BaseException:
                with self._lock:
                    self._collected[:0] = collected  # what comes later has its place behind them
                raise
            self._offset += length
        return self._offset

    def _store(self, collected: list[bytes], length: int) -> None:
        key = f"{_FOLDER}/{self._upload_id}/{self._offset}.{self._epoch}.{length}"
        with self._storage.create(key) as writer:
            for data in collected:
                writer.write(data)
            writer.commit()
