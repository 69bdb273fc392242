"""Which frames: the rule, and the least decoding that gives them.

Time counts from the container's start. Wanted times are k/F for whole k, from the first one at or after the first
frame, while k/F lies before the video's end (last frame's pts plus its duration). The frame at a wanted time is the
one *shown* then: the last with pts at or before it. FFmpeg's ``fps=F:round=up`` picks the same. A range with no wanted
time in it gives the frame shown at its beginning.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import groupby

from fiapx.core.errors import NoFrames, TooManyFrames
from fiapx.core.options import ExtractOptions
from fiapx.media.model import Index, Run, VideoInfo, Wanted


def choose(info: VideoInfo, index: Index, options: ExtractOptions, max_frames: int) -> list[Wanted]:
    """The wanted frames in order of time. Raises NoFrames, and TooManyFrames before any list is made."""
    shown = index.shown()
    if not shown:
        raise NoFrames
    rate, tick = options.rate, info.time_base
    begin = max(info.seconds(shown[0]), options.start or Fraction())
    video_end = info.seconds(index.end_pts)
    end = min(video_end, options.end) if options.end is not None else video_end
    if begin >= end:
        lasts = f"{float(info.seconds(shown[0])):.3f} to {float(video_end):.3f} s"
        raise NoFrames(f"The range holds no frame: the video lasts from {lasts}.")
    first, stop = math.ceil(begin * rate), math.ceil(end * rate)
    if stop - first > max_frames:
        raise TooManyFrames(
            f"{stop - first} frames would be extracted; {max_frames} are allowed.",
            hint="Lower --fps, or choose a part with --start and --end.",
        )
    times = [Fraction(k) / rate for k in range(first, stop)] or [begin]
    return [Wanted(time, shown[bisect_right(shown, info.start_pts + time // tick) - 1]) for time in times]


def runs(index: Index, wanted: Iterable[int]) -> Iterator[Run]:
    """One run for each group of pictures that holds wanted pts (ascending, repeats allowed), in order.

    A leading picture (shown before its keyframe) may refer to the group before, so its run starts there.
    """
    ordinals = {pts: ordinal for ordinal, pts in enumerate(index.pts)}
    starts = [ordinal for ordinal, key in enumerate(index.keyframes) if key] or [0]

    def group_of(pts: int) -> int:
        return max(bisect_right(starts, ordinals[pts]) - 1, 0)

    for group, members in groupby(wanted, group_of):
        unique = tuple(dict.fromkeys(members))
        leading = unique[0] < index.pts[starts[group]]
        first = starts[max(group - leading, 0)] if ordinals[unique[0]] >= starts[0] else 0
        yield Run(first, max(ordinals[pts] for pts in unique), unique)
