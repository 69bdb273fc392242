"""How unlike two frames are, by their thumbnails; and where scenes begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def difference(one: bytes, other: bytes) -> float:
    """Mean absolute difference of two thumbnails, in percent of the whole range."""
    first, second = (np.frombuffer(each, np.uint8).astype(np.int16) for each in (one, other))
    return float(np.abs(first - second).mean() * 100 / 255)


def scene_starts(thumbnails: Iterable[tuple[int, bytes]], threshold: float) -> Iterator[int]:
    """The pts of the frames that begin a scene, given (pts, thumbnail) of all frames in order.

    The score is that of FFmpeg's scdet filter: the difference from the frame before or, if that is less, how much it
    exceeds the difference before. So a cut is told from lasting motion.
    """
    before: bytes | None = None
    last = 0.0
    for pts, thumbnail in thumbnails:
        if before is None:
            yield pts
        else:
            now = difference(before, thumbnail)
            if min(now, abs(now - last)) >= threshold:
                yield pts
            last = now
        before = thumbnail
