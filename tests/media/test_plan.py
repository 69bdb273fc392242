"""The rule of choice and the plan of decoding, without a video."""

from __future__ import annotations

from array import array
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiapx.core.errors import NoFrames, TooManyFrames
from fiapx.core.options import extract_options
from fiapx.media.choose import choose
from fiapx.media.model import NOT_SHOWN, Index, Run, VideoInfo, Wanted
from fiapx.media.plan import runs

MANY = 10**6


def info(time_base: Fraction = Fraction(1, 1000), start_pts: int = 0) -> VideoInfo:
    return VideoInfo(
        "mp4", "h264", 64, 48, "yuv420p", Fraction(1), "bt709", False, (), 0, time_base, start_pts, None, 0
    )  # fmt: skip


def index(pts: list[int], duration: int = 40, keyframes: bytes | None = None) -> Index:
    flags = keyframes if keyframes is not None else b"\1" + bytes(len(pts) - 1)
    return Index(array("q", pts), flags, max(pts) + duration, True, len(pts), 0.0)


def picked(pts: list[int], *, start_pts: int = 0, max_frames: int = MANY, **options: object) -> list[Wanted]:
    return choose(info(start_pts=start_pts), index(pts), extract_options(**options), max_frames, list).wanted


def test_the_last_frame_at_or_before_the_wanted_time_is_taken() -> None:
    assert [want.pts for want in picked([0, 333, 667, 1000, 1333], fps=2)] == [0, 333, 1000]


def test_time_counts_from_the_containers_start() -> None:
    assert picked([1500, 2000, 2500, 3000], start_pts=1000, fps=1) == [
        Wanted(Fraction(1), 2000),
        Wanted(Fraction(2), 3000),
    ]


def test_a_range_without_a_wanted_time_gives_the_frame_shown_at_its_beginning() -> None:
    assert picked([0, 40, 80], every="5s", start="0.05") == [Wanted(Fraction(1, 20), 40)]


def test_the_order_of_packets_does_not_matter() -> None:
    assert picked([0, 120, 40, 80], fps=25) == picked([0, 40, 80, 120], fps=25)


def test_packets_that_are_not_shown_are_no_frames() -> None:
    assert [want.pts for want in picked([NOT_SHOWN, 40, 80], fps=25)] == [40, 80]


def test_a_range_past_the_end_says_how_long_the_video_is() -> None:
    with pytest.raises(NoFrames, match=r"lasts from 0\.000 to 0\.080 s"):
        picked([0, 40], start="10")


def test_too_many_frames_are_refused_before_they_are_listed() -> None:
    with pytest.raises(TooManyFrames, match="100000001 frames"):
        picked([0, 100_000_000_000], fps=1, max_frames=86_400)


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(1, 5000), min_size=1, max_size=30),
    delay=st.integers(0, 3000),
    start_pts=st.integers(-1000, 1000),
    fps=st.fractions(Fraction(1, 10), 60, max_denominator=1001),
)
def test_the_rule_against_its_plainest_reading(steps: list[int], delay: int, start_pts: int, fps: Fraction) -> None:
    pts = [start_pts + delay]
    for step in steps:
        pts.append(pts[-1] + step)
    found = picked(pts, start_pts=start_pts, fps=str(fps))
    times = [Fraction(value - start_pts, 1000) for value in pts]
    end = times[-1] + Fraction(40, 1000)
    k = -(-times[0] * fps // 1)
    expected = []
    while k / fps < end:
        shown = max((time, value) for time, value in zip(times, pts, strict=True) if time <= k / fps)
        expected.append(Wanted(k / fps, shown[1]))
        k += 1
    assert found == expected or (not expected and len(found) == 1)


def test_one_run_a_group_that_stops_after_the_last_wanted_packet() -> None:
    pts, keyframes = [0, 30, 10, 20, 40, 70, 50, 60], b"\1\0\0\0\1\0\0\0"
    assert list(runs(index(pts, keyframes=keyframes), [10, 50])) == [Run(0, 2, (10,)), Run(4, 6, (50,))]


def test_groups_with_nothing_wanted_are_not_decoded() -> None:
    assert list(runs(index([0, 10, 20, 30], keyframes=b"\1\1\1\1"), [30])) == [Run(3, 3, (30,))]


def test_a_leading_picture_counts_as_one_of_the_group_before() -> None:
    pts, keyframes = [0, 10, 40, 20, 30, 50], b"\1\0\1\0\0\0"
    assert list(runs(index(pts, keyframes=keyframes), [20, 50])) == [Run(0, 3, (20,)), Run(2, 5, (50,))]


def test_a_stream_that_starts_without_a_keyframe_is_decoded_from_its_beginning() -> None:
    assert list(runs(index([0, 10, 20], keyframes=b"\0\0\1"), [10])) == [Run(0, 1, (10,))]
    assert list(runs(index([0, 10, 20], keyframes=b"\0\0\0"), [20])) == [Run(0, 2, (20,))]
