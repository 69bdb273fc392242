"""Downloading a result: resumed where it broke, verified before it gets its name."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiapx.cli.outputs import PartFile, PipeOutput
from fiapx.cli.session import at
from fiapx.cli.terminal import Advance
from fiapx.core.errors import ChecksumMismatch, FiapxError, Unavailable

if TYPE_CHECKING:
    import httpx

    from fiapx.cli.api import Api

_TRIES = 5
"""So many broken connections in a row, none of which brought a byte, end a download."""


class Fetch:
    """One job's result on its way into `sink`. The job must have one."""

    def __init__(self, api: Api, job: dict[str, Any], sink: PartFile | PipeOutput, advance: Advance) -> None:
        self._api = api
        self._path = at("jobs", job["id"], "/result")
        self._size = int(job["result"]["size"])
        self._sha256 = str(job["result"]["sha256"])
        self._sink = sink
        self._advance = advance
        self._digest = hashlib.sha256()
        self._position = 0

    def run(self) -> None:
        """Return once every byte is in the sink and verified. Raises Unavailable, ChecksumMismatch, NoSpace."""
        if isinstance(self._sink, PartFile):
            self._resume(self._sink)
        failures = 0
        while self._position < self._size:
            before = self._position
            try:
                self._transfer()
            except Unavailable:
                failures = 0 if self._position > before else failures + 1
                if failures >= _TRIES:
                    raise
                time.sleep(0.1 * 2**failures)
        if self._digest.hexdigest() != self._sha256 or self._position != self._size:
            raise ChecksumMismatch(hint="Download again; if it stays so, something between you and the server errs.")

    def _resume(self, part: PartFile) -> None:
        """Count in what an earlier run left, if it belongs to the same result."""
        memory = _etag_file(part)
        if _remembered(memory) == self._sha256:
            for chunk in part.chunks():
                self._count(chunk)
        if not self._position or self._position > self._size:
            self._restart()
        if not part.direct:
            memory.write_text(self._sha256)

    def _transfer(self) -> None:
        """One request, for what is missing."""
        headers = {"Accept-Encoding": "identity"}
        if self._position:
            headers |= {"Range": f"bytes={self._position}-", "If-Range": f'"{self._sha256}"'}
        with self._api.stream(self._path, headers) as response:
            self._check(response)
            for chunk in response.iter_raw():
                self._sink.write(chunk)
                self._count(chunk)
        if self._position < self._size:
            raise Unavailable("the server sent less than it promised")

    def _check(self, response: httpx.Response) -> None:
        if response.status_code == 206:
            if not response.headers.get("content-range", "").startswith(f"bytes {self._position}-"):
                raise FiapxError("the server sent another range than the one asked for")
        elif self._position:
            self._restart()

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._position += len(chunk)
        self._advance(self._position, self._size)

    def _restart(self) -> None:
        if self._position and not isinstance(self._sink, PartFile):
            raise Unavailable("the connection broke and the server cannot resume")
        if isinstance(self._sink, PartFile):
            self._sink.restart()
        self._digest = hashlib.sha256()
        self._position = 0


def fetch(api: Api, job: dict[str, Any], sink: Path | PipeOutput, advance: Advance) -> None:
    """Download a job's ZIP. For a file, a broken or interrupted download stays as ``.part`` for the next run to go on
    with; any other failure removes it."""
    if isinstance(sink, PipeOutput):
        Fetch(api, job, sink, advance).run()
        sink.commit()
        return
    with PartFile(sink, keep=True) as part:
        try:
            Fetch(api, job, part, advance).run()
            part.commit()
        except Unavailable as error:
            error.hint = "Run the same command again; it goes on where this one stopped."
            raise
        except FiapxError:
            part.discard()
            _forget(part)
            raise
        _forget(part)


def _etag_file(part: PartFile) -> Path:
    """Where it is remembered which result a part belongs to."""
    return part.path.with_name(f"{part.path.name}.etag")


def _forget(part: PartFile) -> None:
    if not part.direct:
        _etag_file(part).unlink(missing_ok=True)


def _remembered(memory: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return memory.read_text().strip()
    return None
