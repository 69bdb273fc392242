"""Uploads on their way, as files below one folder: ``uploads/<id>/<epoch>``.

A writer holds a lock on its file, whose name is the writer's epoch. The next one takes the newest file over, and its
name with it; where the lock is held on to, such as by a process that was stopped, it takes a copy. The file of the
highest epoch thus always has every byte that was recorded.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fiapx.adapters.direct import DirectWriter
from fiapx.adapters.folders import full_disk_told, leave_room, make_folder, sync_folder
from fiapx.adapters.keys import TEMPORARY, checked
from fiapx.core.errors import NotFound
from fiapx.core.ports import InUse

_FOLDER: Final = "uploads"
_CHUNK: Final = 16 * 1024**2


class DiskPartials:
    """The Partials port in the folder of a DiskStorage, with the same `reserve`. Several processes may share it."""

    def __init__(self, root: Path, *, reserve: int = 0) -> None:
        self._root = root
        self._reserve = reserve

    def append(self, upload_id: str, offset: int, epoch: int, *, force: bool = False) -> DiskPartialWriter:
        path = self._folder(upload_id) / str(epoch)
        try:
            with full_disk_told():
                make_folder(path.parent)
                fd = self._taken_over(_newest(path.parent), path, offset, force)
                _cut(fd, offset)
                sync_folder(path.parent)
                return DiskPartialWriter(fd, path, offset, self._reserve)
        except FileNotFoundError:  # discarded in the meantime
            raise NotFound from None

    def _taken_over(self, newest: Path | None, path: Path, offset: int, force: bool) -> int:
        """A descriptor, with the lock, of what is there so far; `path` is its name now."""
        if newest is None:
            fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            return fd
        if int(newest.name) > int(path.name):
            raise InUse  # by a later one, even if that is gone again
        held = _locked(newest)
        if held is not None:
            newest.replace(path)
            return held
        if not force:
            raise InUse
        return self._copied(newest, path, offset)

    def _copied(self, old: Path, new: Path, size: int) -> int:
        """The first bytes of a file that somebody else may still write to, as a file of our own, with its lock."""
        temporary = self._root / TEMPORARY / str(uuid.uuid4())
        try:
            fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                _copy(old, fd, size)
                temporary.replace(new)
            except BaseException:
                os.close(fd)
                raise
        finally:
            temporary.unlink(missing_ok=True)
        return fd

    def assemble(self, upload_id: str, key: str, size: int) -> str | None:
        """The file is renamed: nothing is copied, or read."""
        target = self._root.joinpath(*checked(key).split("/"))
        with full_disk_told(), suppress(FileNotFoundError):  # somebody else is as far as we are
            newest = _newest(self._folder(upload_id))
            if newest is not None and newest.stat().st_size == size:
                make_folder(target.parent)
                newest.replace(target)
                sync_folder(target.parent)
        if not target.is_file() or target.stat().st_size != size:
            raise NotFound
        return None

    def holds(self, upload_id: str, size: int) -> bool:
        with suppress(FileNotFoundError):  # taken over, or discarded, in the meantime
            newest = _newest(self._folder(upload_id))
            return (newest.stat().st_size if newest else 0) >= size
        return False

    def discard(self, upload_id: str) -> None:
        shutil.rmtree(self._folder(upload_id), ignore_errors=True)

    def pending(self) -> Iterator[tuple[str, float]]:
        now = time.time()
        with suppress(FileNotFoundError):
            for folder in (self._root / _FOLDER).iterdir():
                with suppress(FileNotFoundError):  # discarded in the meantime
                    times = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
                    yield folder.name, max(0.0, now - max(times))

    def _folder(self, upload_id: str) -> Path:
        return self._root / _FOLDER / checked(upload_id)


class DiskPartialWriter:
    """Writes a file from an offset on. Its lock tells others that it is alive."""

    in_memory = False

    def __init__(self, fd: int, path: Path, offset: int, reserve: int) -> None:
        self._fd, self._path, self._reserve = fd, path, reserve
        self._position = offset
        self._file = DirectWriter(fd)
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data).cast("B")
        with full_disk_told():
            leave_room(self._path.parent, self._reserve, len(view))
            self._file.write(view, self._position)
        self._position += len(view)
        return len(view)

    def sync(self) -> int:
        safe = self._position
        if self._failed:
            raise self._failed
        try:
            with full_disk_told():
                os.fdatasync(self._fd)  # and the size with it
        except BaseException as error:
            self._failed = error  # Linux tells it once; asked again, it would say that all is well
            raise
        return safe


def _newest(folder: Path) -> Path | None:
    with suppress(FileNotFoundError):
        return max(folder.iterdir(), key=lambda path: int(path.name), default=None)
    return None


def _locked(path: Path) -> int | None:
    """A descriptor with the lock of what the path names now; None if somebody else has that lock."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _cut(fd: int, size: int) -> None:
    """Closes what it cannot cut. Raises NotFound for a file that has not as many bytes."""
    enough = os.fstat(fd).st_size >= size
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    if not enough:
        os.close(fd)
        raise NotFound


def _copy(source: Path, fd: int, size: int) -> None:
    with source.open("rb") as file:
        done = 0
        while done < size:
            copied = os.copy_file_range(file.fileno(), fd, min(_CHUNK, size - done))
            if not copied:
                raise NotFound
            done += copied
    os.fsync(fd)
