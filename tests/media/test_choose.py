"""Which frames are chosen, without a video."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiapx.core.errors import NoFrames, TooManyFrames
from fiapx.core.options import extract_options
from fiapx.media.choose import Choice, choose
from fiapx.media.model import NOT_SHOWN, Wanted
from tests.media.facts import index, info

MANY = 10**6
TEN = list(range(0, 1000, 100))
"""Ten frames, of which the last one lasts as long as the others."""


def chosen(
    pts: list[int], *, start_pts: int = 0, limit: int = MANY, keys: bytes | None = None, **options: Any
) -> Choice:
    """What is chosen of frames with these times in milliseconds. Each that is a multiple of 300 begins a scene."""

    def scenes(candidates: Sequence[int]) -> list[int]:
        return [each for each in candidates if each % 300 == 0]

    known = index(pts, duration=100, keyframes=keys)
    return choose(info(start_pts=start_pts), known, extract_options(**options), limit, scenes)


def picked(pts: list[int], **options: Any) -> list[int]:
    """Their pts alone."""
    return [want.pts for want in chosen(pts, **options).wanted]


def test_the_last_frame_at_or_before_the_wanted_time_is_taken() -> None:
    assert picked([0, 333, 667, 1000, 1333], fps=2) == [0, 333, 1000]


def test_time_counts_from_the_containers_start() -> None:
    found = chosen([1500, 2000, 2500, 3000], start_pts=1000, fps=1).wanted
    assert found == [Wanted(Fraction(1), 2000), Wanted(Fraction(2), 3000)]


def test_a_range_without_a_wanted_time_gives_the_frame_shown_at_its_beginning() -> None:
    assert chosen([0, 40, 80], every="5s", start="0.05").wanted == [Wanted(Fraction(1, 20), 40)]


@pytest.mark.parametrize(
    "options",
    [{"fps": 25}, {"step": 2}, {"count": 3}, {"at": "0.05,0.1"}, {"keyframes": True}, {"scenes": True}],
    ids=str,
)
def test_the_order_of_packets_does_not_matter(options: dict[str, Any]) -> None:
    in_order = picked([0, 40, 80, 120], keys=b"\1\0\0\1", **options)
    assert picked([0, 120, 40, 80], keys=b"\1\1\0\0", **options) == in_order


@pytest.mark.parametrize("options", [{"fps": 25}, {"step": 1}, {"keyframes": True}], ids=str)
def test_packets_that_are_not_shown_are_no_frames(options: dict[str, Any]) -> None:
    shown = list(dict.fromkeys(picked([NOT_SHOWN, 40, 80], keys=b"\1\1\1", **options)))
    assert shown == [40, 80]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"step": 3}, [0, 300, 600, 900]),
        ({"step": 3, "start": "0.15"}, [200, 500, 800]),
        ({"step": 3, "start": "0.2", "end": "0.8"}, [200, 500]),
        ({"step": 100}, [0]),
        ({"step": 10**30}, [0]),
        ({"step": 1, "start": "0.95"}, [900]),
        ({"count": 1}, [500]),
        ({"count": 2}, [200, 700]),
        ({"count": 4}, [100, 300, 600, 800]),
        ({"count": 2, "start": "0.5"}, [600, 800]),
        ({"count": 2, "end": "0.5"}, [100, 300]),
        ({"count": 100}, TEN),
        ({"at": "0.35"}, [300]),
        ({"at": "0.9,0.1,0.1"}, [100, 900]),
        ({"at": "0%,50%,99.9%,100%"}, [0, 500, 900, 900]),
        ({"at": "0%,50%,100%", "start": "0.25", "end": "0.65"}, [200, 400, 600]),
        ({"keyframes": True}, [0, 400, 800]),
        ({"keyframes": True, "start": "0.4"}, [400, 800]),
        ({"keyframes": True, "end": "0.8"}, [0, 400]),
        ({"scenes": True}, [0, 300, 600, 900]),
        ({"scenes": True, "start": "0.3", "end": "0.9"}, [300, 600]),
    ],
    ids=str,
)
def test_each_way_to_choose(options: dict[str, Any], expected: list[int]) -> None:
    assert picked(TEN, keys=b"\1\0\0\0" * 2 + b"\1\0", **options) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fps": 10}, [100, 500, 800]),
        ({"step": 1}, [100, 500, 800]),
        ({"step": 2}, [0, 400, 800]),
        ({"count": 9}, [100, 500, 800]),
        ({"at": "0%,10%,20%,30%,40%,50%,60%,70%,80%"}, [100, 400, 700]),
        ({"keyframes": True}, [100, 500, 800]),
        ({"fps": 10, "start": "0.3"}, [400, 600, 800]),
        ({"fps": 3}, [0, 300, 600]),
        ({"fps": 10**9}, [166, 500, 833]),
    ],
    ids=str,
)
def test_a_budget_is_spread_over_all(options: dict[str, Any], expected: list[int]) -> None:
    found = picked(TEN, keys=b"\1" * 10, max_frames=3, **options)
    assert found == [each // 100 * 100 for each in expected]


def test_a_budget_holds_for_scenes_too() -> None:
    assert picked(TEN, scenes=True, max_frames=2) == [300, 900]


def test_each_time_is_the_wanted_one_or_the_frames_own() -> None:
    assert chosen(TEN, at="0.35").wanted == [Wanted(Fraction("0.35"), 300)]
    assert chosen(TEN, step=5).wanted == [Wanted(Fraction(0), 0), Wanted(Fraction("0.5"), 500)]
    assert chosen(TEN, step=1, start="0.95").wanted == [Wanted(Fraction("0.95"), 900)]


def test_times_before_the_first_frame_give_that_one() -> None:
    assert chosen([1500, 1600], at="0.2").wanted == [Wanted(Fraction("0.2"), 1500)]
    assert chosen([1500, 1600], at="0.2").warnings == ()


def test_times_outside_are_left_out_with_a_warning() -> None:
    choice = chosen(TEN, at="0.1,0.5,1,30s", start="0.2")
    assert [want.pts for want in choice.wanted] == [500]
    (warning,) = choice.warnings
    assert (warning.code, warning.counts) == ("times_outside", {"outside": 3, "wanted": 4})
    assert warning.message.endswith("are left out: the video lasts from 0.000 to 1.000 s.")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start": "10"}, "The range holds no frame"),
        ({"at": "1,2"}, "None of the times lies within the range"),
        ({"at": "0.1", "start": "0.5"}, "None of the times lies within the range"),
        ({"keyframes": True, "start": "0.5"}, "The range holds no such frame"),
    ],
    ids=str,
)
def test_where_there_is_none_the_reason_and_the_length_are_told(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(NoFrames, match=rf"^{reason}: the video lasts from 0\.000 to 1\.000 s\.$"):
        chosen(TEN, **options)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"fps": 1}, 100_000_001),
        ({"fps": 10**30}, 100_000_000 * 10**30 + 10**29),
        ({"count": 10**9}, 10**9),
        ({"count": 10**30}, 10**30),
        ({"fps": 1, "max_frames": 86_401}, 86_401),
    ],
    ids=str,
)
def test_too_many_frames_are_refused_before_they_are_listed(options: dict[str, Any], count: int) -> None:
    with pytest.raises(TooManyFrames, match=rf"^{count} frames would be extracted; 86400 are allowed"):
        chosen([0, 100_000_000_000], limit=86_400, **options)


def test_as_many_as_are_allowed_are_not_too_many() -> None:
    assert len(picked(TEN, limit=10, step=1)) == 10
    with pytest.raises(TooManyFrames):
        picked(TEN, limit=9, step=1)


steps = st.lists(st.integers(1, 5000), min_size=1, max_size=30)


def _times(first: int, following: list[int]) -> list[int]:
    return [first + sum(following[:number]) for number in range(len(following) + 1)]


@settings(deadline=None)
@given(
    steps=steps,
    delay=st.integers(0, 3000),
    start_pts=st.integers(-1000, 1000),
    fps=st.fractions(Fraction(1, 10), 60, max_denominator=1001),
)
def test_the_rule_against_its_plainest_reading(steps: list[int], delay: int, start_pts: int, fps: Fraction) -> None:
    pts = _times(start_pts + delay, steps)
    found = chosen(pts, start_pts=start_pts, fps=str(fps)).wanted
    times = [Fraction(value - start_pts, 1000) for value in pts]
    end = times[-1] + Fraction(100, 1000)
    k = -(-times[0] * fps // 1)
    expected = []
    while k / fps < end:
        shown = max((time, value) for time, value in zip(times, pts, strict=True) if time <= k / fps)
        expected.append(Wanted(k / fps, shown[1]))
        k += 1
    assert found == expected or (not expected and len(found) == 1)


ways = st.one_of(
    st.fixed_dictionaries({"fps": st.fractions(Fraction(1, 10), 60, max_denominator=1001).map(str)}),
    st.fixed_dictionaries({"step": st.integers(1, 40)}),
    st.fixed_dictionaries({"count": st.integers(1, 60)}),
    st.fixed_dictionaries({"at": st.lists(st.integers(0, 100).map("{}%".format), min_size=1, max_size=9)}),
    st.just({"keyframes": True}),
)


@settings(deadline=None)
@given(steps=steps, way=ways, begin=st.integers(0, 99), budget=st.integers(1, 50))
def test_whatever_is_chosen_lies_in_the_range_in_order_and_within_the_budget(
    steps: list[int], way: dict[str, Any], begin: int, budget: int
) -> None:
    pts = _times(0, steps)
    start = Fraction(pts[-1] * begin, 100_000)
    options = {**way, "start": str(start)}
    everything = chosen(pts, keys=b"\1" * len(pts), **options).wanted
    some = chosen(pts, keys=b"\1" * len(pts), max_frames=budget, **options).wanted
    assert some == everything if len(everything) <= budget and "count" not in way else 0 < len(some) <= budget
    for wanted in (everything, some):
        times = [want.time for want in wanted]
        assert times == sorted(set(times))
        assert all(start <= time < Fraction(pts[-1] + 100, 1000) for time in times)
        assert all(max(each for each in pts if each <= want.time * 1000) == want.pts for want in wanted)
    if "count" not in way:
        assert {want.pts for want in some} <= {want.pts for want in everything}


@settings(deadline=None)
@given(available=st.integers(1, 400), budget=st.integers(1, 400))
def test_what_a_budget_keeps_is_evenly_spread(available: int, budget: int) -> None:
    kept = picked(list(range(available)), step=1, max_frames=budget)
    assert len(kept) == min(available, budget)
    gaps = {after - before for before, after in pairwise(kept)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    before, behind = kept[0], available - 1 - kept[-1]
    assert abs(before - behind) <= 1
