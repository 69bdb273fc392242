"""The least decoding that gives the wanted frames."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby

from fiapx.media.model import Index, Run


def runs(index: Index, wanted: Sequence[int]) -> Iterator[Run]:
    """One run for each group of pictures that holds wanted pts (ascending, repeats allowed), in order.

    A leading picture (shown before its keyframe) may refer to the group before, and counts as one of that.
    """
    needed = set(wanted)
    ordinals = {pts: ordinal for ordinal, pts in enumerate(index.pts) if pts in needed}
    starts = [ordinal for ordinal, key in enumerate(index.keyframes) if key] or [0]

    def group_of(pts: int) -> int:
        group = bisect_right(starts, ordinals[pts]) - 1
        return group - (group > 0 and pts < index.pts[starts[group]])

    for group, members in groupby(wanted, group_of):
        unique = tuple(dict.fromkeys(members))
        yield Run(starts[group] if group >= 0 else 0, max(ordinals[pts] for pts in unique), unique)
