"""In front of a person: a bar on stderr, nothing but the result on stdout, and a Ctrl-C that leaves nothing."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tests.e2e.conftest import FRAMES, LONG
from tests.e2e.kit import FIAPX, Account, environment
from tests.e2e.processes import traces
from tests.processing_kit import eventually

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal on stdin that of the command, so that its Ctrl-C reaches it."""


class Screen:
    """A command whose stdin and stderr are a terminal, and whose stdout is a pipe."""

    def __init__(self, folder: Path, *arguments: str | Path, environ: dict[str, str]) -> None:
        self._keyboard, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, str(FIAPX), *map(str, arguments)],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            cwd=folder,
            env=environment(folder, **{"TERM": "xterm-256color", "COLUMNS": "100"} | environ),
        )
        os.close(terminal)
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def end(self) -> tuple[int, str]:
        """Exit code and standard output."""
        output, _ = self._process.communicate(timeout=60)
        self._reader.join()
        os.close(self._keyboard)
        return self._process.returncode, output

    def _read(self) -> None:
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            while data := os.read(self._keyboard, 65536):
                self.shown += data.decode(errors="replace")


def _bar_was_drawn(screen: Screen, name: str, total: int) -> None:
    assert "\x1b[" in screen.shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.shown)
    assert re.search(rf"{re.escape(name)} .*━", plain), plain
    assert re.search(rf"\d+/{total}\b", plain), plain


def test_extract_draws_a_bar(numbered: Path, tmp_path: Path) -> None:
    screen = Screen(tmp_path, "extract", numbered, "--fps", "25", "--format", "png", "-o", "out.zip", environ={})
    code, output = screen.end()
    assert code == 0
    assert re.fullmatch(rf"out\.zip: {FRAMES} frames, [\d.]+ MB\n", output)
    _bar_was_drawn(screen, numbered.name, FRAMES)


def test_upload_draws_bars(ana: Account, numbered: Path, tmp_path: Path) -> None:
    flags = ("--fps", "25", "--format", "png", "--wait")
    screen = Screen(tmp_path, "upload", numbered, *flags, environ=ana.environ)
    code, output = screen.end()
    assert code == 0
    sent, ended = output.splitlines()
    assert re.fullmatch(rf"{re.escape(str(numbered))}: job [0-9a-f-]{{36}}", sent)
    assert re.fullmatch(rf"{re.escape(str(numbered))}: completed, {FRAMES} frames, [\d.]+ MB", ended)
    _bar_was_drawn(screen, numbered.name, FRAMES)
    assert re.search(r"numbered\.mp4 .*━.* kB", screen.shown)  # the upload's own


def test_no_bar_on_a_dumb_terminal(clip: Path, tmp_path: Path) -> None:
    screen = Screen(tmp_path, "extract", clip, environ={"TERM": "dumb"})
    code, _ = screen.end()
    assert (code, screen.shown) == (0, "")


def test_ctrl_c_leaves_nothing(long: Path, tmp_path: Path) -> None:
    screen = Screen(tmp_path, "extract", long, "--fps", "25", "-o", "out.zip", environ={})
    eventually(lambda: re.search(rf"[1-9]\d*/{LONG}", screen.shown) is not None, timeout=60)
    assert (tmp_path / "out.zip.part").exists()
    screen.type("\x03")
    code, output = screen.end()
    assert (code, output) == (130, "")
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: not traces(tmp_path), timeout=20)
    assert "Traceback" not in screen.shown
    assert "\x1b[?25h" in screen.shown  # the cursor is back
