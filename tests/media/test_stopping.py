"""Whatever the decoder is doing, it can be stopped, and it outlives nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fiapx.core.errors import Cancelled, LimitExceeded
from fiapx.core.options import extract_options
from fiapx.media.digest import SourceDigest
from fiapx.media.extract import extract
from fiapx.media.model import Limits, Source
from fiapx.media.process import Watch
from tests.media.clips import X264, Clip

LONG = Clip("long.mp4", (*X264, "-g", "2000", "-bf", "0"), frames=900, size=(640, 480))

ALONE = """
import sys, threading
from fiapx.core.options import extract_options
from fiapx.media.extract import extract
from fiapx.media.model import Source
class Stuck:
    def write(self, data):
        print("writing", flush=True)
        threading.Event().wait()
with open(sys.argv[1], "rb", buffering=0) as file:
    extract(Source("x", file), extract_options(fps=25, engine=sys.argv[2]), Stuck())
"""


class Discard:
    """An output that calls back at its first bytes."""

    def __init__(self, then: threading.Event) -> None:
        self._then = then

    def write(self, data: bytes | memoryview, /) -> int:
        self._then.set()
        return len(data)


def children(pid: int) -> set[int]:
    """All processes under this one that still run."""
    found: set[int] = set()
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, entry.read_text().split()):
            found |= {child} | children(child)
    return {child for child in found if _runs(child)}


def own_decoders() -> set[int]:
    """The decoders among the children of this process: servers that other tests here share are children, too."""
    return {child for child in children(os.getpid()) if _decodes(_command(child))}


def _decodes(command: bytes) -> bool:
    """A nursery does not, which each worker has."""
    own = b"fiapx.media" in command and b"fiapx.media.nursery" not in command
    return own or b"ffmpeg" in command.partition(b"\0")[0]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def _until_gone(pids: set[int], seconds: float) -> float:
    begin = time.monotonic()
    while any(map(_runs, pids)) and time.monotonic() - begin < seconds:
        time.sleep(0.01)
    return time.monotonic() - begin


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_a_frozen_decoder_is_stopped_all_the_same(engine: str, clips: Path) -> None:
    path, begun, cancelled, stopped = LONG.make(clips), threading.Event(), threading.Event(), [0.0]

    def freeze_and_cancel() -> None:
        begun.wait(60)
        for child in own_decoders():
            os.kill(child, signal.SIGSTOP)
        stopped[0] = time.monotonic()
        cancelled.set()

    helper = threading.Thread(target=freeze_and_cancel)
    helper.start()
    options = extract_options(fps=25, engine=engine, format="png")
    with path.open("rb", buffering=0) as file, pytest.raises(Cancelled):
        extract(Source("x", file), options, Discard(begun), cancelled=cancelled)
    assert time.monotonic() - stopped[0] < 1.5
    helper.join()
    assert own_decoders() == set()


def test_time_is_limited(clips: Path) -> None:
    options = extract_options(fps=25, format="png")
    with LONG.make(clips).open("rb", buffering=0) as file, pytest.raises(LimitExceeded):
        extract(Source("x", file), options, Discard(threading.Event()), limits=Limits(timeout=0.2))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_the_decoder_dies_with_its_parent(engine: str, clips: Path) -> None:
    command = [sys.executable, "-c", ALONE, str(LONG.make(clips)), engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"writing\n"
        decoders = children(parent.pid)
        parent.kill()
    assert decoders
    assert _until_gone(decoders, 5) < 2


def test_waiting_for_the_digest_of_a_huge_source_can_be_stopped(tmp_path: Path) -> None:
    huge, cancelled = tmp_path / "huge", threading.Event()
    huge.touch()
    os.truncate(huge, 1 << 40)
    threading.Timer(0.2, cancelled.set).start()
    with huge.open("rb") as file, SourceDigest(Source("x", file)) as digest:
        begin = time.monotonic()
        with pytest.raises(Cancelled):
            digest.hex(Watch(60, cancelled))
    assert time.monotonic() - begin < 1.5
