"""What users may do. Bytes first, then one transaction, then the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from fiapx.core.errors import IdempotencyMismatch
from fiapx.core.events import Event
from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Identity, Partials, Storage
from fiapx.server.processing.admission import Admission
from fiapx.server.processing.model import NewJob, NewVideo, Once
from fiapx.server.processing.store import AlreadyAccepted, Store
from fiapx.server.sql import in_doubt


@dataclass(frozen=True)
class Accepted:
    """The id of a video or job. `replayed`: an earlier request with the same Idempotency-Key made it."""

    id: str
    replayed: bool = False


class Commands:
    """Write side of processing. `on_upload` is told the size of each accepted upload."""

    def __init__(
        self,
        store: Store,
        storage: Storage,
        partials: Partials,
        admission: Admission,
        *,
        on_upload: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._store = store
        self._storage = storage
        self._partials = partials
        self._admission = admission
        self._on_upload = on_upload

    def admit(self, user: Identity) -> None:
        """Return if a job of this user would be taken now. Raises TooManyJobs, QueueFull."""
        self._admission.check(user.user_id)

    def replay(self, user: Identity, once: Once | None) -> Accepted | None:
        """What an earlier request with the same key made. Raises IdempotencyMismatch if that was another request."""
        earlier = self._store.accepted(user.user_id, once.key) if once else None
        if once is None or earlier is None:
            return None
        fingerprint, _, resource_id = earlier
        if fingerprint != once.fingerprint:
            raise IdempotencyMismatch
        return Accepted(resource_id, replayed=True)

    def accept_upload(
        self,
        user: Identity,
        video: NewVideo,
        options: ExtractOptions | None,
        once: Once | None,
        *,
        fresh: bool = False,
    ) -> Accepted:
        """Give a stored object its row, and its job if there are options; ask `admit` before its bytes are taken.

        What fails leaves no object, unless it may have been stored all the same, in a moment that nobody can see yet:
        that one stays for the sweeper.
        """
        job = NewJob(video.id, options.model_dump_json(), user.email, fresh=fresh) if options else None
        try:
            accepted = self._once(user, once, lambda: self._store.accept(user.user_id, video=video, job=job, once=once))
        except Exception as error:
            if not in_doubt(error):
                with suppress(Exception):  # the sweeper comes later, should this fail as well
                    self.drop(video.storage_key)
            raise
        if accepted.replayed:
            self.drop(video.storage_key)
        else:
            self._on_upload(video.size)
        return accepted

    def create_job(
        self, user: Identity, video_id: str, options: ExtractOptions, once: Once | None, *, fresh: bool = False
    ) -> Accepted:
        """A job for a video that is there: queued, or completed if an identical one has a result and it need not be
        `fresh`. Raises NotFound, IdempotencyMismatch, TooManyJobs, QueueFull."""
        job = NewJob(video_id, options.model_dump_json(), user.email, fresh=fresh)

        def accept() -> str:
            self.admit(user)
            return self._store.accept(user.user_id, job=job, once=once)

        return self._once(user, once, accept)

    def retry(self, user: Identity, job_id: str, once: Once | None) -> Accepted:
        """A new job like an ended one; it does run again.

        Raises NotFound, JobNotFinished, Conflict, IdempotencyMismatch, TooManyJobs, QueueFull.
        """

        def accept() -> str:
            self.admit(user)
            return self._store.retry(user.user_id, job_id, once)

        return self._once(user, once, accept)

    def cancel(self, user: Identity, job_id: str) -> None:
        """End a live job now; its worker notices within a second. Raises NotFound, JobFinished."""
        self._store.cancel(user.user_id, job_id)

    def delete_job(self, user: Identity, job_id: str) -> None:
        """Delete an ended job, and its result if no other job has the same. Raises NotFound, JobNotFinished."""
        if key := self._store.delete_job(user.user_id, job_id):
            self._storage.delete(key)

    def delete_video(self, user: Identity, video_id: str) -> None:
        """Delete a video and cancel its live jobs. Ended ones keep their results. Raises NotFound."""
        self._storage.delete(self._store.delete_video(user.user_id, video_id))

    def user_deleted(self, event: Event) -> None:
        """Bus handler for `user.deleted`: delete all that the user had. Repeats are harmless."""
        keys, upload_ids = self._store.delete_user(event.subject)
        for key in keys:
            self._storage.delete(key)
        for upload_id in upload_ids:
            self._partials.discard(upload_id)

    def drop(self, key: str) -> None:
        """Delete the object unless a row names it: somebody else may have made it a video."""
        if self._store.unclaimed([key]):
            self._storage.delete(key)

    def _once(self, user: Identity, once: Once | None, accept: Callable[[], str]) -> Accepted:
        if earlier := self.replay(user, once):
            return earlier
        try:
            return Accepted(accept())
        except AlreadyAccepted:  # between the look and the transaction
            winner = self.replay(user, once)
            assert winner is not None
            return winner


def fingerprint(*declared: str | int | None) -> str:
    """What makes two requests the same: method and path, and what they declare about their content."""
    return hashlib.sha256(json.dumps(declared).encode()).hexdigest()
