"""The ZIP: stored entries in order, written once and never read back, with a manifest that holds every byte range.

The same frames give the same bytes: dates are fixed, and sizes stand in each entry's header (no data descriptors, which
Java's ZipInputStream refuses for stored entries).
"""

from __future__ import annotations

import errno
import hashlib
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import IO, Final, Self, cast

from fiapx.core.errors import NoSpace, OutputTooLarge
from fiapx.media.model import Output

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o644 << 16
_UNIX: Final = 3
_LARGE: Final = 1 << 20
"""Mean bytes of pieces from which on they are not joined before they go out, which would hold them twice."""


@dataclass(frozen=True)
class Entry:
    """A stored entry: its data are the bytes ``[offset, offset + size)`` of the ZIP."""

    name: str
    offset: int
    size: int
    sha256: str


class Archive:
    """Writes entries one by one to an output that can only append. Leaving the `with` block without `close` abandons
    the ZIP."""

    def __init__(self, output: Output, max_bytes: int) -> None:
        self._spool = _Spool(output, max_bytes)
        self._zip = zipfile.ZipFile(cast("IO[bytes]", self._spool), "w", zipfile.ZIP_STORED)

    def add(self, name: str, data: bytes) -> Entry:
        """Append an entry. Raises OutputTooLarge, NoSpace, and what `output.write` raises."""
        info = zipfile.ZipInfo(name, _EPOCH)
        info.create_system = _UNIX
        info.external_attr = _MODE
        self._zip.writestr(info, data)
        offset = self._spool.tell() - len(data)
        self._spool.flush_entry()
        return Entry(name, offset, len(data), hashlib.sha256(data).hexdigest())

    def close(self) -> tuple[int, str]:
        """Write the directory; the ZIP's size and hex SHA-256."""
        self._zip.close()
        self._spool.flush_entry()
        return self._spool.tell(), self._spool.digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.fp = None  # zipfile would write a directory when it is collected


class _Spool:
    """A file for zipfile that holds the current entry alone, so that its header can be completed before it goes out."""

    def __init__(self, output: Output, max_bytes: int) -> None:
        self._output = output
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        self._flushed = self._position = self._end = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """At the end; or at the entry's beginning, its header again, which is as long as before."""
        if self._position == self._end:
            self._held.append(data)
            self._end += len(data)
        else:
            assert self._position == self._flushed
            assert len(data) == len(self._held[0])
            self._held[0] = data
        self._position += len(data)
        if self._position > self._max_bytes:
            raise OutputTooLarge(
                f"The ZIP grows past {self._max_bytes} bytes.", hint="Lower --fps, --width or --quality."
            )
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + {0: 0, 1: self._position, 2: self._end}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """zipfile flushes in the middle of an entry; `flush_entry` decides."""

    def flush_entry(self) -> None:
        large = self._end - self._flushed > _LARGE * len(self._held)
        pieces = self._held if large else [b"".join(self._held)]
        try:
            for piece in pieces:
                self.digest.update(piece)
                rest = memoryview(piece)
                while rest:  # an unbuffered file may take less than all
                    rest = rest[self._output.write(rest) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace from error
            raise
        self._flushed = self._end
        self._held.clear()


def frame_name(index: int, time: Fraction, extension: str) -> str:
    """``frame_000001_00-00-00.000.jpg``: index from 1, time from the container's start, cut to milliseconds."""
    milliseconds = int(time * 1000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"frame_{index:06d}_{hours:02d}-{minutes:02d}-{seconds:02d}.{milliseconds:03d}.{extension}"
