"""What a client remembers of an upload that is not finished: enough to go on with it in another run.

A small file for each server, account, video and order, which is gone when the upload is. Whoever uses one holds its
lock, so that two commands never write to one upload in turns.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from fiapx.cli.failures import writing

_SAMPLE: Final = 64 * 1024
_KEPT: Final = 7 * 24 * 3600.0
"""Seconds after which nobody comes back; servers forget sooner."""


class Memory:
    """`upload_id` is that of an upload to go on with, if there is one."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file
        self.upload_id = _read(file) if file is not None else None

    def keep(self, upload_id: str) -> None:
        self.upload_id = upload_id
        self._write(json.dumps({"upload_id": upload_id}))

    def forget(self) -> None:
        self.upload_id = None
        self._write("")

    def _write(self, text: str) -> None:
        if self._file is not None:
            with writing(self._file.name):
                self._file.seek(0)
                self._file.truncate()
                self._file.write(text)
                self._file.flush()


@contextmanager
def remembered(environ: Mapping[str, str], *identity: Any) -> Iterator[Memory]:
    """The memory of what `identity` names. An empty one, which remembers nothing, where another command has it at the
    moment, or where it cannot be kept."""
    folder = _folder(environ)
    path = folder / (hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32] + ".json")
    with _locked(path) as file:
        memory = Memory(file)
        try:
            yield memory
        finally:
            if file is not None and memory.upload_id is None:
                path.unlink(missing_ok=True)


def traits(path: Path, descriptor: int) -> tuple[str, int, int, str]:
    """What tells a video from others, and from itself after a change: path, size, time, and samples of its bytes."""
    status = os.fstat(descriptor)
    sample = hashlib.sha256()
    for at in (0, status.st_size // 2, max(0, status.st_size - _SAMPLE)):
        sample.update(os.pread(descriptor, _SAMPLE, at))
    return os.fsencode(path.absolute()).hex(), status.st_size, status.st_mtime_ns, sample.hexdigest()


def _folder(environ: Mapping[str, str]) -> Path:
    if given := environ.get("XDG_STATE_HOME"):
        return Path(given) / "fiapx" / "uploads"
    from platformdirs import user_state_path

    return user_state_path("fiapx") / "uploads"


@contextmanager
def _locked(path: Path) -> Iterator[IO[str] | None]:
    """None where it cannot be had: an upload works without, it only starts afresh in the next run."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _prune(path.parent)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError:
            mine = False
        yield file if mine else None


def _prune(folder: Path) -> None:
    for path in folder.glob("*.json"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT:
                path.unlink()


def _read(file: IO[str]) -> str | None:
    try:
        upload_id = json.load(file)["upload_id"]
    except (ValueError, TypeError, KeyError):
        return None
    return upload_id if isinstance(upload_id, str) else None
