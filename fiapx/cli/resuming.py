"""Uploads that go on after any interruption, by tus 1.0.0."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx

from fiapx.cli.api import LONG
from fiapx.cli.session import at
from fiapx.core.errors import NoSpace, NotFound, OffsetMismatch, RateLimited, Superseded, Unavailable

if TYPE_CHECKING:
    from fiapx.cli.api import Api

_TUS: Final = {"Tus-Resumable": "1.0.0"}
_PATIENCE: Final = 120.0
"""Seconds without any progress after which we give up; the next run goes on."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_PIECE: Final = 1024 * 1024
_AGAIN: Final = "Run the same command again: the upload goes on where it stopped."


class Source(Protocol):
    """The video; `size` bytes of it are sent."""

    size: int

    def seek(self, offset: int, /) -> int: ...

    def read(self, size: int, /) -> bytes: ...


def create(api: Api, name: str, size: int, options: dict[str, Any], *, fresh: bool) -> str | None:
    """The id of a new upload that becomes a job. None: the server is too old for such uploads."""
    metadata = {"filename": name, "options": json.dumps(options)} | ({"fresh": "true"} if fresh else {})
    encoded = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items())
    headers = {"Upload-Length": str(size), "Upload-Metadata": ",".join(encoded)}
    try:
        return str(api.create("/uploads", headers=_TUS | headers)["id"])
    except NotFound:
        return None


def offset(api: Api, upload_id: str) -> int | None:
    """How many bytes the server has; None if it does not know the upload any more."""
    try:
        return int(api.get(at("uploads", upload_id))["offset"])
    except NotFound:
        return None


def fill(api: Api, upload_id: str, source: Source) -> dict[str, Any]:
    """Send what is missing, as often as it takes; returns the job. Raises NotFound if the upload has been deleted."""
    pauses = _Pauses()
    while True:
        try:
            there = api.once("HEAD", at("uploads", upload_id), headers=_TUS)
            start = int(there.headers["Upload-Offset"])
            pauses.reached(start)
            if start < source.size:
                there = _send(api, upload_id, _Rest(source, start), start)
            if job_id := there.headers.get("Fiapx-Job-Id"):
                job: dict[str, Any] = api.get(at("jobs", job_id))
                return job
            time.sleep(_FIRST_PAUSE)  # all is there, and is being made a video
        except (Unavailable, NoSpace, RateLimited, OffsetMismatch, Superseded) as error:
            pauses.sleep(error)


def _send(api: Api, upload_id: str, rest: _Rest, start: int) -> httpx.Response:
    body = {"Content-Type": "application/offset+octet-stream", "Content-Length": str(len(rest))}
    headers = _TUS | body | {"Upload-Offset": str(start)}
    return api.once("PATCH", at("uploads", upload_id), headers=headers, content=rest, timeout=LONG)


class _Rest:
    """What is sent from an offset on; it may be iterated again."""

    def __init__(self, source: Source, start: int) -> None:
        self._source, self._start = source, start

    def __len__(self) -> int:
        return self._source.size - self._start

    def __iter__(self) -> Iterator[bytes]:
        self._source.seek(self._start)
        while piece := self._source.read(_PIECE):
            yield piece


class _Pauses:
    """Ever longer ones between failures, until nothing has come of it for too long.

    To be told when to come back is no failure: other uploads of the same user may take hours.
    """

    def __init__(self) -> None:
        self._reached = -1
        self._pause = _FIRST_PAUSE
        self._failing_since: float | None = None

    def reached(self, start: int) -> None:
        if start > self._reached:
            self._reached, self._pause, self._failing_since = start, _FIRST_PAUSE, None

    def sleep(self, error: Unavailable | NoSpace | RateLimited | OffsetMismatch | Superseded) -> None:
        """Raises the error instead after too long."""
        after: float | None = getattr(error, "retry_after", None)
        now = time.monotonic()
        if isinstance(error, RateLimited) and after is not None:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > _PATIENCE:
            error.hint = error.hint or _AGAIN
            raise error
        time.sleep(max(self._pause, min(_LONGEST_PAUSE, after or 0)))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
