"""What is known of a video, without one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from fractions import Fraction

from fiapx.media.model import Index, VideoInfo


def info(time_base: Fraction = Fraction(1, 1000), start_pts: int = 0) -> VideoInfo:
    return VideoInfo(
        "mp4", "h264", 64, 48, "yuv420p", Fraction(1), "bt709", False, (), 0, time_base, start_pts, None, 0
    )  # fmt: skip


def index(pts: Sequence[int], duration: int = 40, keyframes: bytes | None = None) -> Index:
    """Packets with these times in this order; unless `keyframes` says so, the first one alone is a keyframe."""
    flags = keyframes if keyframes is not None else b"\1" + bytes(len(pts) - 1)
    return Index(array("q", pts), flags, max(pts) + duration, True, len(pts), 0.0)
