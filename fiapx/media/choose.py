"""Which frames: the rule, and the other ways to choose.

Time counts from the container's start. Wanted times are k/F for whole k, from the first one at or after the first
frame, while k/F lies before the video's end (last frame's pts plus its duration). The frame at a wanted time is the
one *shown* then: the last with pts at or before it. FFmpeg's ``fps=F:round=up`` picks the same. A range with no wanted
time in it gives the frame shown at its beginning.

Frames that are chosen for themselves (every Nth, keyframes, scenes) are wanted at their own times.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from fiapx.core.errors import NoFrames, TooManyFrames
from fiapx.core.options import ExtractOptions
from fiapx.core.quantities import Position
from fiapx.media.model import NOT_SHOWN, Index, MediaWarning, VideoInfo, Wanted

T = TypeVar("T")
Scenes = Callable[[Sequence[int]], Sequence[int]]
"""Given the pts of frames, ascending: those of the frames that begin a scene. It has to decode all of them."""


@dataclass(frozen=True)
class Choice:
    """The wanted frames in order of time, and what was asked for in vain."""

    wanted: list[Wanted]
    warnings: tuple[MediaWarning, ...] = ()


def choose(info: VideoInfo, index: Index, options: ExtractOptions, limit: int, scenes: Scenes) -> Choice:
    """Raises NoFrames, and TooManyFrames (more than `limit`) before any list is made."""
    return _Choosing(info, index, options, limit).choice(scenes)


class _Choosing:
    def __init__(self, info: VideoInfo, index: Index, options: ExtractOptions, limit: int) -> None:
        self._info = info
        self._index = index
        self._options = options
        self._limit = limit
        self._shown = index.shown()
        if not self._shown:
            raise NoFrames
        self._first = info.seconds(self._shown[0])
        self._video_end = info.seconds(index.end_pts)
        self._begin = max(self._first, options.start or Fraction())
        self._end = min(self._video_end, options.end) if options.end is not None else self._video_end
        if self._begin >= self._end:
            raise NoFrames(f"The range holds no frame: {self._lasts()}")

    def choice(self, scenes: Scenes) -> Choice:
        options = self._options
        if options.at is not None:
            return self._at(options.at)
        if options.count is not None:
            return Choice(self._evenly(options.count))
        if options.step is not None:
            return Choice(self._frames(self._in_range()[:: options.step]))
        if options.keyframes:
            starts = {pts for pts, key in zip(self._index.pts, self._index.keyframes, strict=True) if key}
            return Choice(self._frames([pts for pts in self._in_range() if pts in starts - {NOT_SHOWN}]))
        if options.scenes is not None:
            return Choice(self._frames(scenes(self._in_range())))
        return Choice(self._grid(options.rate))

    def _grid(self, rate: Fraction) -> list[Wanted]:
        ticks = range(math.ceil(self._begin * rate), math.ceil(self._end * rate))
        times = [k / rate for k in self._within_budget(ticks)] or [self._begin]
        return [self._shown_at(time) for time in times]

    def _evenly(self, count: int) -> list[Wanted]:
        """The frames in the middle of `count` equal parts; none twice, if there are fewer."""
        part = (self._end - self._begin) / count
        middles = [self._begin + part * Fraction(2 * k + 1, 2) for k in self._within_budget(range(count))]
        return list({want.pts: want for want in reversed([self._shown_at(time) for time in middles])}.values())[::-1]

    def _at(self, positions: Sequence[Position]) -> Choice:
        """What lies before the first frame gives that; what lies past the end is left out with a warning."""
        times = sorted({self._time(position) for position in positions})
        inside = [time for time in times if self._begin <= max(time, self._first) and time < self._end]
        if not inside:
            raise NoFrames(f"None of the times lies within the range: {self._lasts()}")
        warnings = []
        if outside := len(times) - len(inside):
            text = f"{outside} of {len(times)} times lie outside the range and are left out: {self._lasts()}"
            warnings.append(MediaWarning("times_outside", text, {"outside": outside, "wanted": len(times)}))
        wanted = [self._shown_at(time) for time in self._within_budget(inside)]
        return Choice(wanted, tuple(warnings))

    def _time(self, position: Position) -> Fraction:
        if not position.percent:
            return position.value
        if position.value == 100:
            return max(self._begin, self._info.seconds(self._in_range()[-1]))
        return self._begin + (self._end - self._begin) * position.value / 100

    def _in_range(self) -> list[int]:
        """The pts of the frames that begin within the range; if there is none, of the one shown then."""
        begin, end = (bisect_left(self._shown, time, key=self._info.seconds) for time in (self._begin, self._end))
        return self._shown[begin:end] or [self._shown_at(self._begin).pts]

    def _frames(self, pts: Sequence[int]) -> list[Wanted]:
        if not pts:
            raise NoFrames(f"The range holds no such frame: {self._lasts()}")
        return [Wanted(max(self._info.seconds(each), self._begin), each) for each in self._within_budget(pts)]

    def _shown_at(self, time: Fraction) -> Wanted:
        pts = self._info.start_pts + time // self._info.time_base
        return Wanted(time, self._shown[max(bisect_right(self._shown, pts) - 1, 0)])

    def _within_budget(self, candidates: Sequence[T]) -> Sequence[T]:
        """All of them or, if these are more than `max_frames`, the middles of so many equal parts."""
        available, budget = _length(candidates), self._options.max_frames
        count = min(available, budget or available)
        if count > self._limit:
            raise TooManyFrames(
                f"{count} frames would be extracted; {self._limit} are allowed.",
                hint="Choose fewer, a part with --start and --end, or so many of them with --max-frames.",
            )
        if count == available:
            return candidates
        return [candidates[(2 * k + 1) * available // (2 * count)] for k in range(count)]

    def _lasts(self) -> str:
        return f"the video lasts from {float(self._first):.3f} to {float(self._video_end):.3f} s."


def _length(candidates: Sequence[T]) -> int:
    """Like `len`, which fails for a range of 2**63 and more."""
    if isinstance(candidates, range):
        return max(candidates.stop - candidates.start, 0)
    return len(candidates)
