"""The fast engine's pictures against those of FFmpeg's own command line, on many kinds of streams, pixel by pixel.

Where a stream does not say how long its last frame is shown, versions of FFmpeg disagree on it, and there may be an
entry more or less that shows this frame once more (`Stream.open_ended`). No other difference is allowed, ever.

``make exact STREAMS=1000`` compares so many random streams, tells of each that differs, and goes on to the next.
"""

from __future__ import annotations

import itertools
import os
import random
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.media.comparison import Tally
from tests.media.streams import CODECS, OTHERS, SELECTIONS, UNTIMED, Selection, Stream, grid, selections, streams

GRID = (*grid(), *OTHERS)
STREAMS = int(os.environ.get("FIAPX_EXACT_STREAMS", "0"))
"""How many random streams to draw; 0 for a few that are always the same."""
_FEW = 8


def test_the_grid_has_every_combination_of_codec_b_frames_variable_rate_and_late_start() -> None:
    combinations = {
        (stream.codec, bool(stream.bframes and CODECS[stream.codec].reorders), stream.timing != "constant", late)
        for stream in GRID
        if (late := stream.start == "late") or stream.start == "zero"
    }
    for name in CODECS:
        reorderings = (False, True) if CODECS[name].reorders else (False,)
        assert {*itertools.product((name,), reorderings, (False, True), (False, True))} <= combinations
    assert {stream.codec for stream in GRID} == {*CODECS}
    assert len(set(GRID)) == len(GRID) >= 80


@pytest.mark.parametrize("number", range(len(GRID)), ids=lambda number: f"{GRID[number].codec}-{number}")
def test_every_kind_of_stream_gives_the_pixels_of_ffmpeg(number: int, tmp_path: Path) -> None:
    tally = Tally()
    tally.compare(GRID[number], random.Random(number).sample(SELECTIONS, 5), tmp_path)
    assert not tally.mismatches, str(tally)
    assert (len(tally.streams), tally.selections, tally.refused) == (1, 5, 0)
    assert tally.frames > 5


@pytest.mark.timeout(0 if STREAMS else 120)
def test_streams_that_are_drawn_give_the_pixels_of_ffmpeg() -> None:
    tally = Tally()

    @settings(
        max_examples=STREAMS or _FEW,
        derandomize=not STREAMS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(streams(), selections())
    def compare(stream: Stream, chosen: list[Selection]) -> None:
        if stream not in tally.streams:
            before = len(tally.mismatches)
            with TemporaryDirectory() as folder:
                tally.compare(stream, chosen, Path(folder))
            if STREAMS:
                print(*tally.mismatches[before:], tally.counts(), sep="\n", flush=True)

    compare()
    assert not tally.mismatches, str(tally)
    assert len(tally.streams) >= (STREAMS or _FEW) * 0.9
    assert tally.selections == 5 * len(tally.streams)


def test_of_frames_with_the_same_time_the_last_is_shown(tmp_path: Path) -> None:
    """FFmpeg's own times, where the container's are of no use, may say so."""
    tally = Tally()
    tally.compare(
        Stream("mpeg1", "mpg", "gaps", "offset", gop=1, frames=52), [Selection("25"), Selection("5")], tmp_path
    )
    assert tally.refused == 2
    assert not tally.mismatches


@pytest.mark.parametrize("stream", UNTIMED, ids=lambda stream: f"{stream.codec}-{stream.start}-{stream.gop}")
def test_times_that_ffmpeg_makes_up_are_taken_as_it_means_them(stream: Stream, tmp_path: Path) -> None:
    tally = Tally()
    chosen = [Selection("5"), Selection("1", start="165ms"), Selection("5", end="170ms")]
    tally.compare(stream, chosen, tmp_path)
    assert tally.refused >= 2
    assert not tally.mismatches, str(tally)


DEFECTS = {
    "a neighbour's frame": """
        original = decode.VideoDecoder.frames

        def frames(self, run):
            before = None
            for pts, picture in original(self, run):
                yield pts, picture if before is None else before
                before = picture

        decode.VideoDecoder.frames = frames
    """,
    "a dropped tail": """
        original = decode.build_index

        def build_index(*arguments):
            index = original(*arguments)
            *kept, last = index.shown()
            pts = array("q", (model.NOT_SHOWN if pts == last else pts for pts in index.pts))
            return replace(index, pts=pts, end_pts=last)

        decode.build_index = build_index
    """,
    "a wrong matrix": """
        filters.matrix = lambda *_: "bt709"
    """,
    "pts off by one": """
        original = decode.describe

        def describe(*arguments):
            info = original(*arguments)
            return replace(info, start_pts=info.start_pts - 1)

        decode.describe = describe
    """,
}
_IMPORTS = """
from array import array
from dataclasses import replace

from fiapx.media import decode, filters, model
"""


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_caught(defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted in the decoder child, as Python imports `sitecustomize` from PYTHONPATH at its start."""
    stream = Stream("h264", "mp4", bframes=2)
    chosen = [Selection("25"), Selection("5")]
    sound, defective = Tally(), Tally()
    (tmp_path / "sound").mkdir()
    sound.compare(stream, chosen, tmp_path / "sound")
    assert not sound.mismatches
    (tmp_path / "sitecustomize.py").write_text(_IMPORTS + textwrap.dedent(DEFECTS[defect]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    defective.compare(stream, chosen, tmp_path)
    assert "instead of" in str(defective), "not a crash of the child, but another picture or none"
    assert len(defective.mismatches) > 0
