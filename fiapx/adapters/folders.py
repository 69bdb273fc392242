"""What writing to a folder takes so that it survives a power cut, and a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fiapx.core.errors import NoSpace

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

WRITE: Final = 256 * 1024
"""Bytes of one system call. For more, Linux takes huge pages, which a virtual machine must first get from its host:
that takes ten times as long as the copying."""


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Raises NoSpace where the system says so in its own words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace from error
        raise


def leave_room(folder: Path, reserve: int, size: int = 0) -> None:
    """Raises NoSpace where less than `reserve` bytes would be free after `size` more."""
    if reserve:
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < reserve + size:
            raise NoSpace


def make_folder(folder: Path) -> None:
    """Create a folder so that it survives a power cut: its name is stored in its parent.

    It may be gone again already: a deletion takes folders that it leaves empty.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # `exist_ok` raises it as well, if what existed is gone when it looks
        folder.mkdir()
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to stable storage."""
    with suppress(FileNotFoundError):  # emptied and removed by a deletion: nothing to keep
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
