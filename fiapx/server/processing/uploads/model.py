"""Nouns of resumable uploads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Upload:
    """A row. Its id is that of the video which it becomes; with `options` (JSON) it becomes a job as well.

    `offset` bytes are on stable storage. `epoch` is that of the last writer, the only one that may record more.
    `metadata` is the client's header. `full_ms` is when the last byte was recorded. Both are None where nobody knows.
    """

    id: str
    user_id: str
    email: str | None
    name: str
    size: int
    options: str | None
    fresh: bool
    offset: int
    epoch: int
    job_id: str | None
    touched_ms: int
    finished_ms: int | None
    metadata: str | None = None
    full_ms: int | None = None

    @property
    def full(self) -> bool:
        """All bytes are there."""
        return self.offset == self.size

    @property
    def finished(self) -> bool:
        """It is a video."""
        return self.finished_ms is not None

    def at(self, offset: int) -> Self:
        """The same, with so many bytes."""
        return replace(self, offset=offset)


@dataclass(frozen=True)
class NewUpload:
    """An upload to be. No `options`: no job. `metadata` is the client's header, if there is one."""

    name: str
    size: int
    options: str | None = None
    fresh: bool = False
    metadata: str | None = None
