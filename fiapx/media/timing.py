"""When a video's frames are shown, and at which of them decoding can start: facts of the index."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

from fiapx.media.model import NOT_SHOWN, Index, VideoInfo

_USUAL: Final = tuple(Fraction(rate * 1000, step) for rate in range(1, 241) for step in (1000, 1001))
_EXACT_ENOUGH: Final = 1000
"""Largest denominator of a rate that is none of the usual ones."""


@dataclass(frozen=True)
class Timing:
    """Times are seconds, counted from the container's start."""

    frames: int
    start: float
    """Time of the first frame."""
    end: float
    """Where the last frame ends."""
    rate: Fraction | None
    """Frames a second, on average; None where there is one frame alone, or no rate is known."""
    variable: bool | None
    """Whether frames follow each other in different steps; None where their times are not known."""
    shortest: float
    longest: float
    """Seconds between two frames, or from the last one to the end."""


@dataclass(frozen=True)
class Keyframes:
    """Where decoding can start, as the container has it. Intervals are seconds; the last one ends with the video."""

    count: int
    mean: float
    longest: float
    open_gop: bool
    """There are frames that come after a keyframe in the file and are shown before it, so that they may refer to the
    group of pictures before."""


def timing(info: VideoInfo, index: Index, header_rate: Fraction | None = None) -> Timing:
    """The times of the frames, of which there must be one. The rate is constant if no frame is more than a tick off an
    even grid. `header_rate`, in frames a second, is what there is to go by where no times are stored."""
    if not index.reliable:
        frames = len(index.pts)
        return Timing(frames, 0, float(frames / header_rate) if header_rate else 0.0, header_rate, None, 0, 0)
    shown = index.shown()
    start, end = float(info.seconds(shown[0])), float(info.seconds(index.end_pts))
    steps = [after - before for before, after in pairwise([*shown, index.end_pts])]
    inner, span = len(shown) - 1, shown[-1] - shown[0]
    variable = any(abs((pts - shown[0]) * inner - span * number) > inner for number, pts in enumerate(shown))
    shortest, longest = (float(ticks * info.time_base) for ticks in (min(steps), max(steps)))
    return Timing(len(shown), start, end, _rate(inner, span, info.time_base), variable, shortest, longest)


def _rate(steps: int, span: int, tick: Fraction) -> Fraction | None:
    """So many steps in `span` ticks, as the usual rate that is the same to the tick."""
    if not steps or span <= 0:
        return None
    mean = steps / (span * tick)
    close = [rate for rate in _USUAL if abs(steps / rate - span * tick) <= tick]
    return min(close, key=lambda rate: abs(rate - mean), default=mean.limit_denominator(_EXACT_ENOUGH))


def keyframes(info: VideoInfo, index: Index) -> Keyframes:
    """The keyframes that are shown."""
    times = [pts for pts, key in zip(index.pts, index.keyframes, strict=True) if key and pts != NOT_SHOWN]
    steps = [after - before for before, after in pairwise([*sorted(times), index.end_pts])]
    mean = Fraction(sum(steps), len(steps)) * info.time_base if steps else Fraction()
    return Keyframes(len(times), float(mean), float(max(steps, default=0) * info.time_base), _has_leading(index))


def _has_leading(index: Index) -> bool:
    latest = NOT_SHOWN
    for pts, key in zip(index.pts, index.keyframes, strict=True):
        if key:
            latest = pts
        elif latest > pts != NOT_SHOWN:
            return True
    return False
