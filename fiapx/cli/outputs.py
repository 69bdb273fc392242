"""Where results go, and how a file appears under its name only when it is complete."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from fiapx.cli.failures import writing
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import OutputExists, UsageError

STDOUT = "-"


def destinations(stems: Mapping[str, str], output: str | None, *, several: bool = False) -> dict[str, Path]:
    """The ZIP of each input, given the inputs' stems: ``<stem>.zip`` here, in the folder `output`, or `output` itself.

    `output` is a folder if it is one already, ends with a slash, or there are `several` inputs (more may have been
    asked for than are left). A stem may name sub-folders.
    Raises UsageError if two inputs would give the same file.
    """
    if output is not None and not _is_folder(output, several=several or len(stems) > 1):
        return {name: Path(output) for name in stems}
    planned: dict[Path, str] = {}
    for name, stem in stems.items():
        target = Path(output or ".", f"{stem}.zip")
        if target in planned:
            raise UsageError(
                f"{planned[target]!r} and {name!r} would both give {str(target)!r}",
                hint="Run the command once for each, with different -o.",
            )
        planned[target] = name
    return {name: target for target, name in planned.items()}


def _is_folder(output: str, *, several: bool) -> bool:
    path = Path(output)
    if not (several or output.endswith("/") or path.is_dir()):
        return False
    if path.exists() and not path.is_dir():
        raise UsageError(f"{output!r} is not a folder", hint="Several inputs need a folder: -o DIR.")
    return True


def sinks_for(
    stems: Mapping[str, str], output: str | None, terminal: Terminal, *, several: bool = False
) -> dict[str, Path | PipeOutput]:
    """As `destinations`, with the folders made; or standard output for ``-``. Raises UsageError if it is a terminal."""
    several = several or len(stems) > 1
    if output != STDOUT:
        targets = destinations(stems, output, several=several)
        if output is None or _is_folder(output, several=several):
            _make_folders({target.parent for target in targets.values()})
        return dict(targets)
    if several:
        raise UsageError("-o - takes one ZIP only", hint="Give a folder: -o DIR.")
    pipe = PipeOutput(terminal.binary_output())
    return dict.fromkeys(stems, pipe)


def _make_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def check_free(target: Path | PipeOutput, *, overwrite: bool) -> None:
    """Raises OutputExists if the target would be replaced against the user's will."""
    if isinstance(target, PipeOutput):
        return
    if target.is_dir():
        raise UsageError(f"{str(target)!r} is a folder")
    if target.is_file() and not overwrite:
        raise OutputExists(f"{str(target)!r} exists already", hint="Give --overwrite to replace it.")


@dataclass(frozen=True)
class Existing:
    """What the user wants of outputs that are there already."""

    overwrite: bool
    skip: bool

    def skips(self, target: Path | PipeOutput) -> bool:
        """Whether the target is left as it is. Raises what `check_free` does."""
        if self.skip and isinstance(target, Path) and target.is_file():
            return True
        check_free(target, overwrite=self.overwrite)
        return False


def check_other(target: Path, video: BinaryIO) -> None:
    """Raises UsageError if the target is the video itself."""
    if target.exists() and os.path.samestat(os.fstat(video.fileno()), target.stat()):
        raise UsageError(f"the output {str(target)!r} is the video itself")


class PartFile:
    """``<target>.part``, which `commit` renames to the target. Leaving the `with` block otherwise removes it,
    unless `keep` is set: then a later run may go on where this one stopped.

    Locked against a second process. A target that exists and is no regular file (/dev/null) is written directly.
    """

    def __init__(self, target: Path, *, keep: bool = False) -> None:
        self.target = Path(os.path.realpath(target))  # replace what a symbolic link points at, not the link
        self.direct = self.target.exists() and not self.target.is_file()
        self.path = self.target if self.direct else self.target.with_name(f"{self.target.name}.part")
        self.keep = keep
        self._file: BinaryIO
        self._committed = False

    def __enter__(self) -> Self:
        with writing(self.target):
            self._file = self.path.open("wb", buffering=0) if self.direct else self._open_locked()
        if not self.keep:
            self.restart()
        return self

    def _open_locked(self) -> BinaryIO:
        while True:
            file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise OutputExists(f"another fiapx is writing {str(self.target)!r}") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            file.close()  # its owner renamed it between our open and our lock

    @property
    def position(self) -> int:
        """Bytes that are there."""
        return 0 if self.direct else os.fstat(self._file.fileno()).st_size

    def restart(self) -> None:
        """Forget what is there."""
        if not self.direct:
            with writing(self.target):
                self._file.truncate(0)
                self._file.seek(0)

    def chunks(self) -> Iterator[bytes]:
        """What is there; afterwards writing goes on at the end."""
        if self.direct:
            return
        self._file.seek(0)
        while chunk := self._file.read(1024 * 1024):
            yield chunk

    def write(self, data: bytes | memoryview, /) -> int:
        """Append all of it. Raises NoSpace, or UsageError for a place that cannot be written."""
        with writing(self.target):
            view = memoryview(data).cast("B")
            written = 0
            while written < len(view):
                written += self._file.write(view[written:])
            return written

    def commit(self) -> None:
        """Return once the target is complete on stable storage."""
        if self.direct:
            self._committed = True
            return
        with writing(self.target):
            os.fsync(self._file.fileno())
            self.path.replace(self.target)
            self._committed = True
            _sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the part, also if it was to be kept."""
        self.keep = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if not (self._committed or self.keep or self.direct):
            self.path.unlink(missing_ok=True)
        self._file.close()


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot; the file itself is safe
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class PipeOutput:
    """Standard output as a destination: what is written cannot be taken back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes | memoryview, /) -> int:
        with writing("standard output"):
            self._file.write(data)
        return len(data)

    def commit(self) -> None:
        with writing("standard output"):
            self._file.flush()
