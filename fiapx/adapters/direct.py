"""Writing large files past the page cache (``O_DIRECT``, open(2)).

What goes to stable storage anyway need not be copied into memory first, nor take the place of what others read there.
On a virtual machine whose memory is not there yet, copying takes several times as long as the disk does.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

from fiapx.adapters.folders import WRITE

_BLOCK: Final = 4096
"""Offsets, sizes and addresses are multiples of it, whatever the disk."""
_CACHED: Final = 16 * 1024**2
"""Bytes at the beginning of a file that go through the cache: a decoder reads them first, and small videos whole."""
_FLAG: Final = getattr(os, "O_DIRECT", 0)


class DirectWriter:
    """Writes to a descriptor; like any other where system, file system or alignment do not allow better."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._possible = bool(_FLAG)

    def write(self, data: memoryview, position: int) -> None:
        """All of the data. Raises OSError."""
        done = 0
        if self._possible and position % _BLOCK == 0 and position >= _CACHED:
            done = self._directly(data[: len(data) - len(data) % _BLOCK], position)
        while done < len(data):
            done += os.pwrite(self._fd, data[done : done + WRITE], position + done)

    def _directly(self, data: memoryview, position: int) -> int:
        done = 0
        try:
            self._switch(_FLAG)
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], position + done)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._possible = False  # a file system without it, or memory that starts at an odd address
        finally:
            self._switch(0)
        return done

    def _switch(self, flag: int) -> None:
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~_FLAG | flag)
