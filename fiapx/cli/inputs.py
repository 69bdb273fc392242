"""What the user names as input: video files, folders of them, and standard input."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final, cast

from fiapx.cli.failures import writing
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import Cancelled, InputNotFound, UsageError

STDIN: Final = "-"
_STDIN_NAME: Final = "stdin"
_POLL: Final = 0.1
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Inputs:
    """What to work on."""

    stems: dict[str, str]
    """Path of each input, as the user would write it → its output's path without the extension: the file's stem, below
    the sub-folders in which a folder has it."""
    several: bool
    """There are several, or there could be: a folder was named."""


def expand(names: Sequence[str]) -> Inputs:
    """Each file once, and each folder as the videos in it, sorted. A folder without any stays, to fail by its name."""
    stems: dict[str, str] = {}
    for name in names:
        if name != STDIN and _is_folder(name):
            stems |= _below(name, _videos_in(name)) or {name: Path(name).name}
        else:
            stems.setdefault(name, _STDIN_NAME if name == STDIN else Path(name).stem)
    return Inputs(stems, len(stems) > 1 or any(name not in stems for name in names))


def _below(folder: str, paths: list[str]) -> dict[str, str]:
    """The output of each path. Those that differ by their extensions alone keep them."""
    relative = {path: Path(path).relative_to(folder) for path in paths}
    uses = Counter(path.with_suffix("") for path in relative.values())
    bare = {path: name.with_suffix("") for path, name in relative.items()}
    return {path: str(stem if uses[stem] == 1 else relative[path]) for path, stem in bare.items()}


def _videos_in(folder: str) -> list[str]:
    """Files with a video's extension, recursively, sorted; nothing hidden. Each folder once, whatever links there are.
    A sub-folder that cannot be read is among them, since nobody knows what is in it."""
    from fiapx.media.formats import EXTENSIONS

    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(False, Path(folder))]
    while waiting:
        linked, at = heappop(waiting)  # links come last, so that a folder's own name is the one that counts
        try:
            status = at.stat()
            entries = [entry for entry in at.iterdir() if not entry.name.startswith(".")]
        except OSError:
            found.append(str(at))
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if _is_folder(entry):
                heappush(waiting, (linked or entry.is_symlink(), entry))
            elif entry.suffix[1:].lower() in EXTENSIONS:
                found.append(str(entry))
    return sorted(found)


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path's own raises for a name with a NUL, or where one may not look


class VideoFile(io.FileIO):
    """A regular file, unbuffered, without ever waiting for a FIFO. Raises InputNotFound in words for people."""

    def __init__(self, path: Path) -> None:
        super().__init__(_descriptor(path), "rb")


def _descriptor(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in the name
        raise InputNotFound("the file cannot be read: its name is not one") from None
    except OSError as error:
        reason = {errno.ENOENT: "there is no such file", errno.EACCES: "you may not read it"}
        raise InputNotFound(f"the file cannot be read: {reason.get(error.errno or 0, error.strerror)}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "it is a folder with no video in it" if stat.S_ISDIR(mode) else "it is not a regular file"
        raise InputNotFound(f"the file cannot be read: {what}")
    return descriptor


def source_name(name: str) -> str:
    """The input's name without its folder, for people and for the manifest."""
    return _STDIN_NAME if name == STDIN else Path(name).name


def check_readable(name: str, terminal: Terminal) -> None:
    """Raises what `opened` would, at once: InputNotFound, or UsageError where standard input is a terminal."""
    if name != STDIN:
        VideoFile(Path(name)).close()
    elif terminal.stdin.isatty():
        raise UsageError("refusing to read a video from a terminal", hint="Redirect a video: … - < VIDEO.")


@contextmanager
def opened(name: str, terminal: Terminal, cancelled: Event) -> Iterator[BinaryIO]:
    """The input as a file that can be read anywhere; standard input is copied into a file without a name, since
    decoding goes back and forth. Raises InputNotFound, UsageError, NoSpace or Cancelled."""
    check_readable(name, terminal)
    if name != STDIN:
        with VideoFile(Path(name)) as file:
            yield cast("BinaryIO", file)
        return
    with _unnamed() as spool:
        for data in _chunks(terminal.stdin.fileno(), cancelled):
            rest = memoryview(data)
            with writing(tempfile.gettempdir()):
                while rest:
                    rest = rest[spool.write(rest) :]
        yield cast("BinaryIO", spool)


def _unnamed() -> io.FileIO:
    with writing(tempfile.gettempdir()):
        return tempfile.TemporaryFile(buffering=0)


def _chunks(descriptor: int, cancelled: Event) -> Iterator[bytes]:
    """What comes in until its end; a pipe on which nothing comes can be left."""
    while not cancelled.is_set():
        if select.select([descriptor], [], [], _POLL)[0]:
            if not (data := os.read(descriptor, _CHUNK)):
                return
            yield data
    raise Cancelled
