"""Objects as files below one folder. What `commit` has acknowledged survives a power cut."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from fiapx.adapters.folders import WRITE, full_disk_told, leave_room, make_folder, sync_folder
from fiapx.adapters.keys import TEMPORARY, checked
from fiapx.core.errors import NoSpace, NotFound, Unavailable

CHUNK: Final = 512 * 1024
_LITTLE_SPACE: Final = 64 * 1024**2
_LOOK: Final = 1.0
"""Seconds after which a full disk is looked at again."""


class DiskStorage:
    """The Storage port on a local folder. Several processes may share it.

    Writing ends with NoSpace while `reserve` bytes are still free: databases on the same disk need them, and whoever
    deletes something to make room needs the databases.
    """

    def __init__(self, root: Path, *, reserve: int = 0) -> None:
        self._root = root
        self._reserve = reserve
        self._temporary = root / TEMPORARY
        self._temporary.mkdir(parents=True, exist_ok=True)

    def create(self, key: str) -> DiskWriter:
        target = self._path(key)
        with full_disk_told():
            return DiskWriter(self._temporary / str(uuid.uuid4()), target, self._reserve)

    def open(self, key: str) -> BinaryIO:
        try:
            return open(self._path(key), "rb", buffering=0)  # noqa: PTH123 - the caller closes it
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound from None

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return _chunks(self.open(key), start, end)

    def address(self, key: str, ttl: float, *, disposition: str, media_type: str) -> None:
        """A folder has no URLs."""

    def delete(self, key: str) -> None:
        path = self._path(key)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        if path.parent.parent != self._root:  # `jobs/<id>` goes with its last file, `jobs` stays
            with suppress(OSError):
                path.parent.rmdir()

    def list(self, prefix: str) -> Iterator[tuple[str, float]]:
        folder, _, _ = prefix.rpartition("/")
        now = time.time()
        for place, _, names in os.walk(self._path(folder) if folder else self._root):
            for path in (Path(place, name) for name in names):
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not key.startswith(f"{TEMPORARY}/"):
                    with suppress(FileNotFoundError):  # deleted in the meantime
                        yield key, max(0.0, now - path.stat().st_mtime)

    def sweep(self, older_than: float) -> int:
        return sum(_sweep(path, older_than) for path in self._temporary.iterdir())

    def resting(self) -> float:
        """While not even the reserve is free."""
        try:
            leave_room(self._temporary, self._reserve)
        except (NoSpace, OSError):
            return _LOOK
        return 0.0

    def check(self) -> None:
        """Raises NoSpace while there is little left, Unavailable for a folder that went away."""
        try:
            leave_room(self._temporary, _LITTLE_SPACE)
        except OSError as error:
            raise Unavailable(f"The storage folder cannot be used: {error.strerror}.") from None

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*checked(key).split("/"))


class DiskWriter:
    """Writes beside the objects and moves into place at commit. A lock tells the sweeper that it is alive."""

    def __init__(self, path: Path, target: Path, reserve: int) -> None:
        self._path = path
        self._target = target
        self._reserve = reserve
        self._fd: int | None = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def write(self, data: bytes | memoryview, /) -> int:
        assert self._fd is not None, "the object is committed already"
        view = memoryview(data).cast("B")
        with full_disk_told():
            leave_room(self._path.parent, self._reserve, len(view))
            written = 0
            while written < len(view):
                written += os.write(self._fd, view[written : written + WRITE])
        return written

    def commit(self) -> None:
        assert self._fd is not None, "the object is committed already"
        with full_disk_told():
            os.fsync(self._fd)
            self._move()
            sync_folder(self._target.parent)
            sync_folder(self._path.parent)
        self._close()

    def _move(self) -> None:
        while True:
            make_folder(self._target.parent)
            try:
                self._path.replace(self._target)
            except FileNotFoundError:
                if not self._path.exists():
                    raise
            else:  # otherwise a deletion took the empty folder away again
                return

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _chunks(file: BinaryIO, start: int, end: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start if end is not None else None
        while left is None or left > 0:
            data = file.read(CHUNK if left is None else min(CHUNK, left))
            if not data:
                return
            if left is not None:
                left -= len(data)
            yield data


def _sweep(path: Path, older_than: float) -> bool:
    """Remove a temporary file that nobody writes any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(fd).st_mtime < older_than:
            return False
        path.unlink(missing_ok=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
