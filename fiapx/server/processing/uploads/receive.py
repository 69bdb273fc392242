"""The body of one request on its way into an upload.

A piece is hashed and written, in two threads, while the next one comes in, and now and then what was written is brought
to stable storage and recorded, beside all that: a kill costs little, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from typing import Any, Final

from anyio import CancelScope, CapacityLimiter, move_on_after
from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect

from fiapx.core.errors import NoSpace, PayloadTooLarge, Superseded, UploadChecksum
from fiapx.core.ports import InUse, PartialWriter
from fiapx.server.processing.uploads.lane import Lane, heard
from fiapx.server.processing.uploads.model import Upload
from fiapx.server.processing.uploads.service import Uploads

_PIECE: Final = 4 * 1024**2
"""Bytes that threads are given at a time: few calls, since each has to wait for the interpreter twice."""
_STEP: Final = 16 * 1024**2
"""Bytes between two records at least."""
_PAUSE: Final = 0.5
"""Seconds between two records, unless memory runs out before: each waits for the disk, and then for the database."""
_TICK: Final = 0.5
"""How often a writer looks whether it still is the one, and whether something waits to be recorded."""
_RELEASE: Final = 3.0
"""Seconds that an earlier writer gets to let go."""
_PATIENCE: Final = 10.0
"""Seconds that a client waits for its video after the last byte; longer, and a gateway could lose patience."""


@dataclass(frozen=True)
class Checksum:
    """What the bytes of a request must have; `algorithm` is one of hashlib's."""

    algorithm: str
    digest: bytes


class Finisher:
    """Finishes full uploads, a few at a time, in threads that go on when their clients are told to ask later."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._threads = CapacityLimiter(4)

    async def __call__(self, upload: Upload, sha256: str | None = None) -> Upload:
        """The finished upload, or the full one if that takes too long. Raises what `Uploads.finish` raises."""
        if not upload.full or upload.finished:
            return upload
        with move_on_after(_PATIENCE):
            finish = partial(self._uploads.finish, upload, sha256)
            return await run_sync(finish, limiter=self._threads, abandon_on_cancel=True)
        return upload


async def receive(
    uploads: Uploads, claim: Upload, body: AsyncIterator[bytes], checksum: Checksum | None
) -> tuple[int, str | None]:
    """Add a body to an upload; return where it is then, and the SHA-256 of a full one if it is known without reading.

    A client that leaves has what came until then. Raises PayloadTooLarge, UploadChecksum, Superseded, NoSpace.
    """
    with await _opened(uploads, claim) as writer:
        stretch = _Stretch(uploads, claim, writer, checksum)
        try:
            try:
                async with _until_superseded(uploads, claim, stretch.look):
                    async for chunk in body:
                        await stretch.feed(chunk)
                await stretch.finish()
            except (ClientDisconnect, NoSpace):
                await stretch.salvage()
                raise
        finally:
            await stretch.settle()
    return stretch.offset, stretch.sha256


async def _opened(uploads: Uploads, claim: Upload) -> PartialWriter:
    """The writer, once an earlier one has noticed that it is none any more; one that hangs is left behind."""
    deadline = asyncio.get_running_loop().time() + _RELEASE
    while True:
        force = asyncio.get_running_loop().time() >= deadline
        try:
            return await run_sync(partial(uploads.partials.append, claim.id, claim.offset, claim.epoch, force=force))
        except InUse:
            if not await run_sync(uploads.store.owned, claim):
                raise Superseded from None
            await asyncio.sleep(_TICK / 10)


@asynccontextmanager
async def _until_superseded(uploads: Uploads, claim: Upload, look: Callable[[], None]) -> AsyncIterator[None]:
    """Leave the block with Superseded soon after somebody else has begun to write, even while nothing comes in. Until
    then, `look` again and again."""

    async def watch() -> None:
        while await run_sync(uploads.store.owned, claim):
            await asyncio.sleep(_TICK)
            look()
        scope.cancel()

    with CancelScope() as scope:
        watcher = asyncio.create_task(watch())
        watcher.add_done_callback(heard)
        try:
            yield
        finally:
            watcher.cancel()
    if scope.cancelled_caught:
        raise Superseded


class _Stretch:
    """What one request adds. `offset` is recorded; `sha256` is that of an upload that is full, if it is known."""

    def __init__(self, uploads: Uploads, claim: Upload, writer: PartialWriter, checksum: Checksum | None) -> None:
        self.offset = claim.offset
        self._uploads, self._claim, self._writer, self._checksum = uploads, claim, writer, checksum
        self._all: Any = uploads.hashes.take(claim)
        self._own: Any = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._piece, self._other = mmap(-1, _PIECE), mmap(-1, _PIECE)
        self._room = _PIECE - claim.offset % _PIECE  # further ones begin at whole blocks of the file
        self._filled = self._received = self._hashed = self._unsaved = 0
        self._saved = time.monotonic()
        self._hashing, self._writing = Lane(), Lane()
        self._saving = Lane(self._writing)

    async def feed(self, data: bytes) -> None:
        self._received += len(data)
        if self._claim.offset + self._received > self._claim.size:
            raise PayloadTooLarge("The upload has fewer bytes, by its Upload-Length.")
        rest = memoryview(data)
        while rest:
            room = self._room - self._filled
            part, rest = rest[:room], rest[room:]
            self._piece[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == self._room:
                await self._hand_over()

    async def finish(self) -> None:
        """All has come: bring it to stable storage, compare, record."""
        await self._hand_over()
        for lane in (self._writing, self._hashing, self._saving):
            await lane.wait()
        await run_sync(self._close)

    async def salvage(self) -> None:
        """No more will come. What there is stays, unless nobody can compare it with its checksum."""
        if self._checksum is None:
            with suppress(NoSpace):
                await self._hand_over()
                await self._writing.wait()
            await self.settle()
            await run_sync(self._close)

    def look(self) -> None:
        """Record what is due, though nothing more may come for a while."""
        if self._due() and self._saving.run_if_free(self._save):
            self._note()

    async def settle(self) -> None:
        """No thread is at work any more."""
        for lane in (self._writing, self._hashing, self._saving):
            await lane.settle()

    @property
    def sha256(self) -> str | None:
        whole = self._all is not None and self.offset == self._claim.size
        return self._all.hexdigest() if whole else None

    async def _hand_over(self) -> None:
        """Both threads are done with the piece before this one, which the next one may take the place of."""
        if not self._filled:
            return
        piece = memoryview(self._piece)[: self._filled]
        self._unsaved += self._filled
        self._filled, self._room = 0, _PIECE
        await self._writing.run(partial(self._write, piece))
        await self._hashing.run(partial(self._hash, piece))
        self._piece, self._other = self._other, self._piece
        if self._due():
            self._note()
            await self._saving.run(self._save)

    def _due(self) -> bool:
        """Whether what was written should be recorded: there is enough of it, and the last time was a while ago."""
        waited = time.monotonic() - self._saved >= _PAUSE
        return self._unsaved >= _STEP and (self._writer.in_memory or waited)

    def _note(self) -> None:
        self._unsaved, self._saved = 0, time.monotonic()

    def _write(self, piece: memoryview) -> None:
        self._writer.write(piece)

    def _hash(self, piece: memoryview) -> None:
        for running in (self._all, self._own):
            if running is not None:
                running.update(piece)
        self._hashed += len(piece)

    def _save(self) -> None:
        safe = self._writer.sync()
        if self._checksum is None:  # bytes that might turn out wrong are not recorded
            self._record(safe)

    def _close(self) -> None:
        safe = self._writer.sync()
        if self._checksum is not None and self._own.digest() != self._checksum.digest:
            raise UploadChecksum
        self._record(safe)
        if self._all is not None and self._claim.offset + self._hashed == safe < self._claim.size:
            self._uploads.hashes.keep(self._claim.id, safe, self._all)

    def _record(self, safe: int) -> None:
        self._uploads.store.advance(self._claim, safe)
        self.offset = safe
