"""What users may do with resumable uploads. An upload whose last byte was recorded becomes a video, come what may."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import structlog

from fiapx.core.errors import FiapxError, InvalidToken, NotFound
from fiapx.core.ports import Identity, Partials, Storage
from fiapx.server.processing.commands import Accepted, Commands
from fiapx.server.processing.model import Once, video_key
from fiapx.server.processing.store import AlreadyAccepted
from fiapx.server.processing.uploads.model import NewUpload, Upload
from fiapx.server.processing.uploads.store import UploadStore

log = structlog.get_logger(__name__)

_QUIET: Final = 60.0
"""Seconds after which a full upload is not in the hands of the request that filled it any more."""


class RunningHashes:
    """SHA-256 of what uploads have so far, between two requests to this process; the oldest ones are forgotten."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def take(self, upload: Upload) -> Any:
        """The hash of the bytes before the upload's offset; None if nobody knows it."""
        with self._lock:
            offset, running = self._kept.pop(upload.id, (0, None))
        if upload.offset == 0:
            return hashlib.sha256()
        return running if offset == upload.offset else None

    def keep(self, upload_id: str, offset: int, running: Any) -> None:
        with self._lock:
            self._kept[upload_id] = (offset, running)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)


class Uploads:
    """Blocking, like the ports. `on_upload` is told the size of each upload that has become a video."""

    def __init__(
        self,
        store: UploadStore,
        commands: Commands,
        storage: Storage,
        partials: Partials,
        *,
        on_upload: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self.store = store
        self.partials = partials
        self.hashes = RunningHashes()
        self._commands = commands
        self._storage = storage
        self._on_upload = on_upload

    def create(self, user: Identity, new: NewUpload, once: Once | None) -> tuple[Upload, Accepted]:
        """An upload without a byte, or the one that an earlier request with the same Idempotency-Key made.

        Raises RateLimited, TooManyJobs, QueueFull, IdempotencyMismatch, InvalidToken.
        """
        accepted = self._commands.replay(user, once)
        if accepted is None:
            if new.options is not None:
                self._commands.admit(user)
            try:
                upload = self.store.create(user, new, once)
                return upload, Accepted(upload.id)
            except AlreadyAccepted:
                accepted = self._commands.replay(user, once)
                assert accepted is not None
        return self.store.find(user.user_id, accepted.id), accepted

    def delete(self, user: Identity, upload_id: str) -> None:
        """Delete the upload, and its bytes unless they are a video. Raises NotFound."""
        self.store.delete(user.user_id, upload_id)
        self.partials.discard(upload_id)

    def finish(self, upload: Upload, sha256: str | None = None) -> Upload:
        """Make the video, and the job, of an upload that is full; repeats give the same.

        Takes a while for many bytes. Raises NotFound if it was deleted meanwhile, InvalidToken, NoSpace.
        """
        current = self.store.find(upload.user_id, upload.id)
        if current.finished:
            return current
        key = video_key(upload.id)
        read = self.partials.assemble(upload.id, key, upload.size)
        try:
            finished, here = self.store.finish(upload, sha256 or read or self._sha256(key))
        except (NotFound, InvalidToken):
            self._commands.drop(key)  # another request may have finished it, before its upload was deleted
            raise
        self.partials.discard(upload.id)
        if here:
            self._on_upload(upload.size)
        return finished

    def finish_left(self) -> None:
        """Finish uploads that were left between their last byte and their video, such as by a crash."""
        for upload in self.store.full(_QUIET):
            try:
                self.finish(upload)
            except (FiapxError, OSError) as error:  # others may do better
                code = error.code if isinstance(error, FiapxError) else repr(error)
                log.warning("upload_not_finished", upload_id=upload.id, error=code)
                self.store.postpone(upload)

    def sweep(self, age: float) -> int:
        """Delete uploads that have waited for too long, and bytes of that age that no upload wants; return how many."""
        expired = self.store.expire()
        old = [upload_id for upload_id, seconds in self.partials.pending() if seconds >= age]
        unwanted = {*expired, *old} - self.store.unfinished(old)
        for upload_id in unwanted:
            self.partials.discard(upload_id)
            log.info("upload_removed", upload_id=upload_id)
        return len(unwanted)

    def _sha256(self, key: str) -> str:
        running = hashlib.sha256()
        for chunk in self._storage.read(key):
            running.update(chunk)
        return running.hexdigest()
