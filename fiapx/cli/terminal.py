"""Where a command talks: one object holds the streams, the environment and what the user can see.

Conventions: results go to stdout; progress, warnings and errors to stderr. With ``--json`` stdout holds exactly one
JSON document, also when the command fails: then it is ``{"error": {"code", "message", "hint"}}``, and stderr has the
same message as a line. (`watch --json` writes one document a line instead.)
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TextIO

from fiapx.cli.failures import writing
from fiapx.core.errors import FiapxError, UsageError
from fiapx.core.text import visible

Advance = Callable[[int, int], None]
"""Reports (done, total); a total of 0 means: not known yet."""

Row = Sequence[str]


class _Reconfigurable(Protocol):
    def reconfigure(self, *, errors: str) -> None: ...


@dataclass
class Terminal:
    """The streams and the environment of one run. Tests build their own and run commands in-process."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    json: bool = False
    """Set by ``--json``."""
    answered: bool = False
    """A JSON document is on stdout already."""

    @classmethod
    def of_process(cls) -> Terminal:
        """The process's own streams; those that the caller has closed read and write nothing."""
        _open_standard_descriptors()
        streams = [sys.stdin or _null("r"), sys.stdout or _null("w"), sys.stderr or _null("w")]
        for stream in streams[1:]:
            if hasattr(stream, "reconfigure"):
                _never_fail_to_encode(stream)
        return cls(streams[0], streams[1], streams[2], os.environ)

    @property
    def draws(self) -> bool:
        """Whether progress is shown as a bar: on a terminal that can move its cursor."""
        return self.stderr.isatty() and self.environ.get("TERM") != "dumb"

    def say(self, line: str) -> None:
        """One line of result for a person; nothing with --json."""
        if not self.json:
            self._write([line])

    def note(self, line: str) -> None:
        """One line on stderr."""
        with suppress(OSError, ValueError):  # nowhere to complain
            self.stderr.write(f"{line}\n")
            self.stderr.flush()

    def warn(self, line: str) -> None:
        self.note(f"fiapx: warning: {line}")

    def document(self, value: Any) -> None:
        """The JSON document of this run; nothing without --json. ASCII escapes keep a terminal safe from names."""
        if self.json:
            self.answered = True
            self._write([json.dumps(value)])
            self.flush()

    def flush(self) -> None:
        """Bring to standard output what is still in our buffer. Raises NoSpace, UsageError, ReaderGone."""
        with writing("standard output"):
            self.stdout.flush()

    def _write(self, lines: Iterable[str]) -> None:
        with writing("standard output"):
            self.stdout.writelines(f"{line}\n" for line in lines)

    def error(self, error: FiapxError) -> None:
        """Tell why the command failed."""
        self.complain(error)
        if self.json and not self.answered:
            self.document({"error": error_document(error)})

    def complain(self, error: FiapxError, about: str | None = None) -> None:
        """One line on stderr, and one with the hint."""
        subject = f"{visible(about)}: " if about else ""
        self.note(f"fiapx: error: {subject}{visible(error.message)}")
        if error.hint:
            self.note(f"fiapx: hint: {visible(error.hint)}")

    def table(self, headers: Row, rows: Sequence[Row]) -> None:
        """Columns under headers on a terminal; tab-separated lines without headers elsewhere."""
        if self.json:
            return
        rows = [[visible(cell) for cell in row] for row in rows]
        if not self.stdout.isatty():
            self._write("\t".join(row) for row in rows)
            return
        widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
        for row in (headers, *rows):
            self._write(["  ".join(map(str.ljust, row, widths)).rstrip()])

    @contextmanager
    def progress(self, what: str, *, in_bytes: bool = False) -> Iterator[Advance]:
        """A bar with the time left on a terminal's stderr; nothing elsewhere."""
        if not self.draws:
            yield lambda _done, _total: None
            return
        from fiapx.cli.bar import bar  # rich is slow to import

        with bar(self.stderr, visible(what), in_bytes=in_bytes, color=not self.environ.get("NO_COLOR")) as advance:
            yield advance

    def binary_output(self) -> BinaryIO:
        """Standard output for bytes. Raises UsageError where a person would see them."""
        if self.stdout.isatty():
            raise UsageError("refusing to write a ZIP to a terminal", hint="Redirect it, or name a file with -o.")
        if self.json:
            raise UsageError("-o - and --json both want standard output")
        self.flush()
        return self.stdout.buffer


def error_document(error: FiapxError) -> dict[str, Any]:
    """What ``--json`` says about an error."""
    code = getattr(error, "reported_code", error.code)
    document = {"code": code, "message": error.message}
    return document | ({"hint": error.hint} if error.hint else {})


def _null(mode: str) -> TextIO:
    return open(os.devnull, mode)  # type: ignore[return-value]  # noqa: PTH123 - lives as long as the process


def _never_fail_to_encode(stream: _Reconfigurable) -> None:
    stream.reconfigure(errors="backslashreplace")


def _open_standard_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed: the next opened file would become somebody's standard output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
