"""The plan of decoding, without a video."""

from __future__ import annotations

from fiapx.media.model import Run
from fiapx.media.plan import runs
from fiapx.media.segments import segments
from tests.media.facts import index


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


def test_segments_hold_a_few_runs_in_order_and_lose_none() -> None:
    intra = [Run(number, number, (number,)) for number in range(40)]
    parts = list(segments(intra))
    assert [len(part.runs) for part in parts] == [16, 16, 8]
    assert [pts for part in parts for pts in part.wanted] == list(range(40))


def test_segments_of_long_groups_hold_one_each() -> None:
    groups = [Run(first, first + 249, (first,)) for first in range(0, 1000, 250)]
    assert [part.runs for part in segments(groups)] == [(group,) for group in groups]
