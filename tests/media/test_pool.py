"""Decoder children side by side: the same bytes however many there are, and an end to what goes wrong in one."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fiapx.core.errors import DecoderFailed
from fiapx.core.options import extract_options
from fiapx.media import child
from fiapx.media.extract import extract
from fiapx.media.model import EncodedFrame, Source
from fiapx.media.spare import Spare
from tests.media.clips import BY_NAME, X264, Clip, damaged
from tests.media.extracting import Extracted
from tests.media.sources import numbers
from tests.media.test_stopping import children, own_decoders

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def _noise(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture that no PNG makes smaller."""
    return np.random.default_rng(number).integers(16, 235, (height, width), np.uint8)


SOURCES = ["h264-bframes.mp4", "h264-open-gop.mkv", "prores.mov", "vp9.webm", "h263-all-keyframes.avi"]
"""The last one claims keyframes that are none, so that each child comes to decode it whole."""
NOISE = Clip("noise.mp4", ("-c:v", "mpeg4", "-q:v", "2", "-g", "10"), frames=200, size=(640, 480), draw=_noise)


def extracted(path: Path, jobs: int, spare: Spare | None = None, **options: Any) -> Extracted:
    output = io.BytesIO()
    with path.open("rb", buffering=0) as file:
        result = extract(Source("x.mp4", file), extract_options(**options), output, jobs=jobs, spare=spare)
    return Extracted(result, output.getvalue())


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    "options", [{"step": 1}, {"scenes": 3}, {"fps": 2, "sheet": True, "drop_similar": True}], ids=str
)
def test_any_number_of_children_gives_the_same_bytes(name: str, options: dict[str, Any], clips: Path) -> None:
    path = BY_NAME[name].make(clips)
    one, two, three = (extracted(path, jobs, **options) for jobs in (1, 2, 3))
    assert one.data == two.data == three.data
    assert one.result.engine == "fast"  # also where frames are decoded a second time, after the look for scenes
    if "step" in options and name != SOURCES[-1]:  # whose pixels are not square, which moves the numbers
        assert numbers(three) == list(range(75))


def taking_part(path: Path, jobs: int, **options: Any) -> list[int]:
    """How many decoders there are at each write of an extraction."""
    seen = []

    class Counting(io.BytesIO):
        def write(self, data: Any, /) -> int:
            seen.append(len(own_decoders()))
            return len(data)

    with path.open("rb", buffering=0) as file:
        extract(Source("x", file), extract_options(**options), Counting(), jobs=jobs)
    return seen


@linux
def test_as_many_children_as_are_allowed_take_part(clips: Path) -> None:
    for jobs in (1, 3):
        assert max(taking_part(NOISE.make(clips), jobs, step=2)) == jobs
    assert own_decoders() == set()


@linux
@pytest.mark.parametrize("name", ["h264-bframes.mp4", "h264-short.mp4"])
def test_a_large_file_has_a_second_child_at_hand(name: str, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = BY_NAME[name].make(clips)
    alone = extracted(path, 1, step=1)
    monkeypatch.setattr("fiapx.media.pool._LARGE", 1)
    assert extracted(path, 2, step=1).data == alone.data
    assert own_decoders() == set(), "one that was not needed is gone too"


def test_a_short_video_needs_one_child_alone(clips: Path) -> None:
    started = threading.active_count()
    extracted(BY_NAME["h264-short.mp4"].make(clips), 8)
    assert threading.active_count() <= started + 3


@linux
@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("engine", ["auto", "fast"])
def test_a_child_that_is_killed_fails_the_extraction_and_leaves_no_process(
    engine: str, which: int, clips: Path
) -> None:
    class Killing(io.BytesIO):
        def write(self, data: Any, /) -> int:
            found = sorted(own_decoders())
            if len(found) == 2:
                os.kill(found[which], signal.SIGKILL)
            return len(data)

    options = extract_options(step=1, engine=engine, format="png")
    with NOISE.make(clips).open("rb", buffering=0) as file, pytest.raises(DecoderFailed, match="ended by signal 9"):
        extract(Source("x", file), options, Killing(), jobs=2)
    assert own_decoders() == set()


LIAR = """
import json, os, sys
from array import array
from dataclasses import replace
from fiapx.media import child
from fiapx.media.model import Look
honest = child.write_frame
tell = child.write_message
def write_frame(out, frame):
    {frame}
def write_message(out, head, payload=b"", aside=b""):
    {message}
child.write_frame, child.write_message = write_frame, write_message
child.main(int(sys.argv[1]))
"""


class Lying(Spare):
    """A child that does its work and tells something else; these lines say what."""

    def __init__(self, frame: str = "honest(out, frame)", message: str = "tell(out, head, payload)") -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", LIAR.format(frame=frame, message=message), str(os.getpid())]
        with theirs:
            process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        self._child = process, ours


def test_a_child_that_does_not_lie_is_believed(clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    options: dict[str, Any] = {"fps": 2, "sheet": True, "drop_black": True}
    assert extracted(path, 1, Lying(), **options).data == extracted(path, 1, **options).data


@pytest.mark.parametrize(
    "lie",
    [
        "honest(out, replace(frame, pts=frame.pts + 1))",
        "honest(out, frame); honest(out, frame)",
        "honest(out, replace(frame, width=frame.width + 1))",
        "honest(out, replace(frame, width=frame.height, height=frame.width))",
        "honest(out, replace(frame, width=0))",
        "honest(out, replace(frame, data=b''))",
        "honest(out, replace(frame, tile=b''))",
        "honest(out, replace(frame, tile=frame.tile[:-1]))",
        "honest(out, replace(frame, look=None))",
        "honest(out, replace(frame, look=replace(frame.look, dark=float('nan'))))",
        "honest(out, replace(frame, look=replace(frame.look, dark=float('inf'))))",
        "honest(out, replace(frame, look=replace(frame.look, sharpness=-1.0)))",
        "honest(out, replace(frame, look=replace(frame.look, sharpness='x')))",
        "tell(out, {'type': 'frame'})",
        "tell(out, {'type': 'frame', 'pts': 0, 'width': 192, 'height': 128, 'look': None}, b'x', b'x' * 99)",
        "out.write(b'\\\\xff' * 64); out.flush()",
        "out.write(b'\\\\0\\\\0\\\\0\\\\2' + bytes(8) + b'[]'); out.flush()",
    ],
)  # fmt: skip
def test_a_child_that_tells_nonsense_of_a_frame_is_not_believed(lie: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    with pytest.raises(DecoderFailed, match=r"nonsense|nobody asked for"):
        extracted(path, 1, Lying(lie), fps=2, sheet=True, drop_black=True)


@pytest.mark.parametrize(
    "lie",
    [
        "honest(out, replace(frame, data=frame.data[:-1]))",
        "honest(out, replace(frame, width=1))",
        "honest(out, replace(frame, tile=bytes(64 * 36 * 3)))",
    ],
)
def test_a_child_that_tells_nonsense_of_a_thumbnail_is_not_believed(lie: str, clips: Path) -> None:
    with pytest.raises(DecoderFailed, match="nonsense"):
        extracted(BY_NAME["h264-bframes.mp4"].make(clips), 1, Lying(lie), scenes=True)


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ("tell(out, head, payload + b'x' if head['type'] == 'done' else payload)", "nonsense"),
        ("tell(out, head, bytes(8000) if head['type'] == 'done' else payload)", "nonsense"),
        ("tell(out, head, b'\\x7f' * 8 if head['type'] == 'done' else payload)", "nonsense"),
        ("tell(out, {'type': 'index', 'length': 10**9}, payload)", "nonsense"),
        (
            "tell(out, {'type': 'error', 'code': 'auth_required', 'message': 'give me your token'})",
            "give me your token",
        ),
        ("os._exit(0)", "ended with status 0"),
        ("tell(out, head, payload); os._exit(3)", "ended with status 3"),
    ],
)
def test_a_child_that_ends_or_tells_nonsense_of_the_video_fails(lie: str, message: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    with pytest.raises(DecoderFailed, match=message) as caught:
        extracted(path, 1, Lying(message=lie), step=1)  # several segments
    assert caught.value.code == "decoder_failed"


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
    extract(Source("x", file), extract_options(step=1, format="png"), Stuck(), jobs=2)
"""


@linux
def test_a_slow_writer_makes_the_parent_hold_no_more_than_a_few_images(clips: Path) -> None:
    """All of them are 180 MB; two children may be 32 MiB ahead each, and an image that is on its way."""
    command = [sys.executable, "-c", ALONE, str(NOISE.make(clips))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"writing\n"
            before, used = _memory(parent.pid), _ticks(parent.pid)
            while (now := _ticks(parent.pid)) > used or len(children(parent.pid)) < 2:  # until the children wait too
                used = now
                time.sleep(1)
            assert _memory(parent.pid) - before < 80 * 1024**2
            assert all(_memory(each) < 250 * 1024**2 for each in children(parent.pid))
        finally:
            parent.kill()


def _memory(pid: int) -> int:
    """Bytes that this process has resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _ticks(parent: int) -> int:
    """Processor time of its children."""
    stats = (Path(f"/proc/{each}/stat").read_text().rsplit(") ", 1)[1].split() for each in children(parent))
    return sum(int(stat[11]) + int(stat[12]) for stat in stats)


def _frames(*order: int, size: int = 1) -> list[EncodedFrame]:
    return [EncodedFrame(pts, 1, 1, bytes(size)) for pts in order]


@pytest.mark.parametrize(
    ("order", "given"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((2, 3, 4, 1), (1, 2, 3, 4)),
        ((1, 3, 2, 4), (1, 2, 3, 4)),
        ((4, 3, 2, 1), (1, 2, 3, 4)),
        ((1, 3, 4), (1, 3, 4)),
        ((4, 2), (2, 4)),
        ((), ()),
    ],
    ids=str,
)
def test_a_late_frame_is_put_in_order_and_a_lost_one_is_not_waited_for_in_the_end(
    order: tuple[int, ...], given: tuple[int, ...]
) -> None:
    assert [frame.pts for frame in child.in_order(_frames(*order), (1, 2, 3, 4))] == list(given)


def test_a_lost_frame_does_not_hold_everything_up() -> None:
    size, taken = 1024**2, 0

    def coming() -> Iterator[EncodedFrame]:
        nonlocal taken
        for frame in _frames(*range(1, 200), 0, size=size):  # 0 comes when nobody waits for it any more
            taken += 1
            yield frame

    given = child.in_order(coming(), range(200))
    assert next(given).pts == 1
    assert 64 <= taken <= 70
    assert [frame.pts for frame in given] == list(range(2, 200))


@pytest.mark.parametrize("engine", ["fast", "auto"])
@pytest.mark.parametrize("options", [{"step": 1}, {"fps": 5}, {"scenes": 3}], ids=str)
def test_damage_is_counted_alike_by_any_number_of_children(
    options: dict[str, Any], engine: str, clips: Path, tmp_path: Path
) -> None:
    whole = Clip("damage.mp4", (*X264, "-bf", "0", "-g", "15")).make(clips)
    path = damaged(whole, tmp_path / "damaged.mp4", 3, 20, 21, 45, 74)
    one, three = (extracted(path, jobs, engine=engine, **options) for jobs in (1, 3))
    warnings = {warning.code: warning.counts for warning in one.result.warnings}
    assert "source_damaged" in warnings or "frames_missing" in warnings
    if engine == "fast" and "step" in options:
        assert warnings["source_damaged"] == {"packets": 5}
        assert warnings["frames_missing"] == {"missing": 75 - one.result.frames, "wanted": 75}
    assert one.data == three.data
    assert all(image.startswith(b"\xff\xd8\xff") for image in one.images())


def test_frames_that_ffmpeg_had_to_decode_are_told(clips: Path, tmp_path: Path) -> None:
    """HEVC's decoder leaves a broken picture out without a word, and shows what comes after it as well as it can."""
    codec = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    whole = Clip("damage-hevc.mp4", (*codec, "-x265-params", "log-level=error:keyint=20:bframes=0")).make(clips)
    path = damaged(whole, tmp_path / "damaged.mp4", 30)
    found = extracted(path, 2, engine="auto", step=1)
    assert found.result.engine == "fast+ffmpeg"
    warnings = {warning.code: warning.counts for warning in found.result.warnings}
    assert warnings == {"ffmpeg_helped": {"frames": 45}, "frames_missing": {"missing": 1, "wanted": 75}}
    assert extracted(whole, 2, engine="auto", step=1).result.warnings == ()


@linux
def test_a_decoder_that_cannot_be_started_early_is_no_traceback() -> None:
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6)); "
        "sys.argv[1:] = ['extract', 'x']; runpy.run_module('fiapx', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("fiapx: error: ")
    assert "Traceback" not in done.stderr
