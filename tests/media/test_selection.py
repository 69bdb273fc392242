"""Every way to choose frames, in both engines, by the numbers that are drawn into the pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fiapx.core.errors import NoFrames, TooManyFrames
from fiapx.media.model import Limits
from tests.media.clips import BITS, BLOCK, BY_NAME, X264, Clip, ffmpeg, numbered
from tests.media.extracting import run
from tests.media.sources import TIMED, Timed, numbers, numbers_of

both_engines = pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
each_source = pytest.mark.parametrize("source", TIMED, ids=lambda source: source.name)


@both_engines
@each_source
def test_every_nth_frame(source: Timed, engine: str, clips: Path) -> None:
    path = source.make(clips)
    assert numbers_of(path, engine, step=7) == list(range(0, 75, 7))
    first = next(number for number, time in enumerate(source.times) if time >= 1)
    extracted = run(path, engine=engine, step=10, start=1, end=2)
    assert numbers(extracted) == [number for number in range(first, 75, 10) if source.times[number] < 2]
    rows = extracted.manifest()["frames"]
    assert [row["time"] for row in rows] == [row["shown_at"] for row in rows]
    assert [row["time"] for row in rows] == [float(source.times[number]) for number in numbers(extracted)]


@both_engines
@each_source
def test_so_many_frames_evenly_spread(source: Timed, engine: str, clips: Path) -> None:
    path = source.make(clips)
    part = (source.end - source.times[0]) / 4
    middles = [source.times[0] + part * Fraction(2 * k + 1, 2) for k in range(4)]
    extracted = run(path, engine=engine, count=4)
    assert numbers(extracted) == [source.shown_at(time) for time in middles]
    assert [row["time"] for row in extracted.manifest()["frames"]] == [round(float(time), 6) for time in middles]
    assert numbers_of(path, engine, count=2, start=1, end=2) == [source.shown_at(Fraction(at, 4)) for at in (5, 7)]
    assert numbers_of(path, engine, count=500) == list(range(75))


@both_engines
@each_source
def test_the_frames_at_these_times(source: Timed, engine: str, clips: Path) -> None:
    path = source.make(clips)
    extracted = run(path, engine=engine, at=["0", "1.5", "250ms", "2s", "50%", "100%"])
    half = (source.times[0] + source.end) / 2
    wanted = sorted({Fraction(0), Fraction(3, 2), Fraction(1, 4), Fraction(2), half, source.times[-1]})
    assert numbers(extracted) == [source.shown_at(time) for time in wanted]
    assert [row["time"] for row in extracted.manifest()["frames"]] == [round(float(time), 6) for time in wanted]
    assert extracted.result.warnings == ()


@both_engines
def test_times_past_the_end_are_warned_of_and_nothing_else_is_an_error(engine: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    extracted = run(path, engine=engine, at="1,2.99,3,1h")
    assert numbers(extracted) == [25, 74]
    (warning,) = extracted.manifest()["warnings"]
    assert (warning["code"], warning["counts"]) == ("times_outside", {"outside": 2, "wanted": 4})
    with pytest.raises(NoFrames, match=r"None of the times .* lasts from 0\.000 to 3\.000 s"):
        run(path, engine=engine, at="3,1h")


@both_engines
@each_source
def test_keyframes_are_those_that_ffmpeg_takes_for_such(source: Timed, engine: str, clips: Path) -> None:
    path = source.make(clips)
    found = numbers_of(path, engine, keyframes=True)
    assert found == _keyframes(path)
    begin = source.times[found[-1]] - Fraction(1, 1000)
    assert numbers_of(path, engine, keyframes=True, start=str(begin)) == found[-1:]


@pytest.mark.parametrize("name", ["h264-in-avi.avi", "mpeg4-packed.avi", "mpeg1.m1v"])
def test_keyframes_of_a_stream_without_times(name: str, clips: Path) -> None:
    path = BY_NAME[name].make(clips)
    found = numbers_of(path, "auto", keyframes=True)
    assert found == numbers_of(path, "ffmpeg", keyframes=True) == _keyframes(path)
    assert len(found) > 1


def _keyframes(path: Path) -> list[int]:
    """The numbers of the frames that FFmpeg's decoder takes for keyframes. It does not go by the container's flags;
    ``-skip_frame nokey`` would lose some in open groups of pictures."""
    raw = ffmpeg("-i", str(path), "-map", "0:V:0", "-vf", "select=key", "-fps_mode", "passthrough",
                 "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1")  # fmt: skip
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, 128, 192)
    bits = pictures[:, BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK] > 127
    return [int(number) for number in bits @ (1 << np.arange(BITS)[::-1])]


def _scenes(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A cut at each of CUTS: below the number, what was bright is dark."""
    picture = numbered(number, width, height)
    if sum(number >= cut for cut in CUTS) % 2:
        picture[BLOCK:] = 255 - picture[BLOCK:]
    return picture


CUTS = (13, 20, 40, 41 + 18)
_PLAIN = (*X264, "-sc_threshold", "0", "-bf", "3")
SCENES = [
    Clip("scenes-gop20.mp4", (*_PLAIN, "-g", "20", "-keyint_min", "20"), draw=_scenes),  # cuts in groups and between
    Clip("scenes-one-gop.mp4", (*_PLAIN, "-g", "300"), draw=_scenes),
    Clip("scenes-open-gop.mkv", (*_PLAIN, "-g", "20", "-x264-params", "open-gop=1"), draw=_scenes),
    Clip("scenes-intra.mov", ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"), draw=_scenes),
    Clip("scenes-vfr.mp4", (*_PLAIN, "-g", "20", "-fps_mode", "vfr"), filters=BY_NAME["h264-vfr.mp4"].filters,
         draw=_scenes),
    Clip("scenes-10bit.mkv", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-g", "30"), draw=_scenes),
]  # fmt: skip


@both_engines
@pytest.mark.parametrize("clip", SCENES, ids=lambda clip: clip.name)
def test_scenes_begin_at_the_cuts(clip: Clip, engine: str, clips: Path) -> None:
    path = clip.make(clips)
    extracted = run(path, engine=engine, scenes=True)
    assert numbers(extracted) == [0, *CUTS]
    assert extracted.result.engine == engine


@both_engines
def test_scenes_of_a_range_begin_with_its_first_frame(engine: str, clips: Path) -> None:
    path = SCENES[0].make(clips)
    assert numbers_of(path, engine, scenes=True, start="0.2", end="1.6") == [5, 13, 20]
    assert numbers_of(path, engine, scenes=True, start="0.52", end="1.64") == [13, 20, 40]


@both_engines
def test_a_higher_threshold_finds_fewer_scenes(engine: str, clips: Path) -> None:
    assert numbers_of(SCENES[0].make(clips), engine, scenes=60) == [0]


@both_engines
@each_source
def test_without_a_cut_there_is_one_scene(source: Timed, engine: str, clips: Path) -> None:
    assert numbers_of(source.make(clips), engine, scenes=True) == [0]


def test_scenes_of_a_stream_without_times(clips: Path) -> None:
    path = Clip("scenes.avi", (*_PLAIN, "-g", "20"), draw=_scenes).make(clips)
    assert numbers_of(path, "auto", scenes=True) == [0, *CUTS]


@both_engines
@each_source
def test_a_budget_is_spread_over_the_whole_video(source: Timed, engine: str, clips: Path) -> None:
    path = source.make(clips)
    assert numbers_of(path, engine, step=1, max_frames=3) == [12, 37, 62]
    grid = [Fraction(k, 10) for k in range(100) if source.times[0] <= Fraction(k, 10) < source.end]
    spread = [grid[(2 * k + 1) * len(grid) // 8] for k in range(4)]
    assert numbers_of(path, engine, fps=10, max_frames=4) == [source.shown_at(time) for time in spread]
    keys = numbers_of(path, engine, keyframes=True)
    assert numbers_of(path, engine, keyframes=True, max_frames=1) == [keys[len(keys) // 2]]


@both_engines
def test_a_budget_holds_for_scenes_times_and_counts(engine: str, clips: Path) -> None:
    path = SCENES[0].make(clips)
    assert numbers_of(path, engine, scenes=True, max_frames=2) == [13, 40]
    assert numbers_of(path, engine, at="0,1,2", max_frames=1) == [25]
    assert numbers_of(path, engine, count=75, max_frames=3) == [12, 37, 62]
    assert numbers_of(path, engine, fps=25, start=1, end=2, max_frames=2) == [31, 43]


@both_engines
def test_a_budget_larger_than_what_there_is_changes_nothing(engine: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    assert numbers_of(path, engine, fps=5, max_frames=15) == numbers_of(path, engine, fps=5) == list(range(0, 75, 5))


@both_engines
def test_more_frames_than_are_allowed_are_an_error_and_a_budget_helps(engine: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    for options in ({"count": 10**9}, {"fps": 10**9}, {"step": 1}, {"fps": "1/0.001"}):
        with pytest.raises(TooManyFrames) as caught:
            run(path, engine=engine, limits=Limits(max_frames=50), **options)
        assert "--max-frames" in (caught.value.hint or "")
    assert len(run(path, engine=engine, limits=Limits(max_frames=50), count=10**9, max_frames=50).images()) == 50
