"""An upload on its way to storage: bounded memory, no spooling; hashing and writing happen in a thread."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio.to_thread import run_sync

from fiapx.core.errors import PayloadTooLarge, UnsupportedFormat
from fiapx.core.ports import ObjectWriter, Storage

_PIECE: Final = 1024 * 1024


class Upload:
    """Takes the bytes of one object, at most `limit`."""

    def __init__(self, writer: ObjectWriter, limit: int) -> None:
        self._writer = writer
        self._limit = limit
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.size = 0

    async def feed(self, data: bytes) -> None:
        """Raises PayloadTooLarge, NoSpace."""
        self.size += len(data)
        if self.size > self._limit:
            raise PayloadTooLarge
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _PIECE:
            await run_sync(self._flush)

    async def finish(self) -> str:
        """Store the object for good; return its hex SHA-256. Raises UnsupportedFormat if it is empty, NoSpace."""
        if not self.size:
            raise UnsupportedFormat("The file is empty.")
        await run_sync(self._commit)
        return self._hash.hexdigest()

    def _flush(self) -> None:
        piece = b"".join(self._pending)
        self._pending, self._pending_size = [], 0
        self._hash.update(piece)
        self._writer.write(piece)

    def _commit(self) -> None:
        self._flush()
        self._writer.commit()


@asynccontextmanager
async def receiving(storage: Storage, key: str, limit: int) -> AsyncIterator[Upload]:
    """An upload that leaves nothing behind unless it is finished."""
    with await run_sync(storage.create, key) as writer:
        yield Upload(writer, limit)
