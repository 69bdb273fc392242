"""From a decoded frame to upright, square-pixel RGB: one chain of libavfilter filters, the same for both engines."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Final

from fiapx.core.errors import FrameTooLarge
from fiapx.core.options import ExtractOptions
from fiapx.media.model import VideoInfo

Filter = tuple[str, dict[str, str]]
"""A filter's name and its options."""

_EXACT: Final = "bicubic+accurate_rnd+full_chroma_int+bitexact"
"""Without accurate_rnd and full_chroma_int, swscale's fast paths are up to 3 of 255 off and differ between CPUs."""

_MATRICES: Final = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_HD_LINES: Final = 720
_TURNS: Final = frozenset(
    {"hflip", "vflip", *(f"transpose={way}" for way in ("clock", "cclock", "clock_flip", "cclock_flip"))}
)
_MAX_SIDE: Final = 65_500
"""Pixels; libjpeg's limit."""


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise FrameTooLarge for pictures that are too large to decode or to write."""
    if width * height > max_pixels or max(width, height) > _MAX_SIDE:
        raise FrameTooLarge(
            f"The pictures are {width}x{height}; {max_pixels} pixels are allowed, and {_MAX_SIDE} a side. "
            "Where only their aspect ratio makes them so large, --width helps."
        )


def check_info(info: VideoInfo) -> None:
    """Raise ValueError for what `chain` must not put into a graph: `info` comes from a child that is not trusted."""
    numbers = (info.width, info.height, info.start_pts, info.declared_frames)
    names = (info.format, info.codec, info.pixel_format)
    if not (
        {*info.orientation} <= _TURNS
        and info.matrix in _MATRICES.values()
        and all(isinstance(number, int) for number in numbers)
        and all(isinstance(name, str) and len(name) < 100 for name in names)
        and min(info.width, info.height) > 0
        and min(info.sample_aspect, info.time_base) > 0
        and math.isfinite(info.declared_duration or 0)
    ):
        raise ValueError("the description of the video makes no sense")


def picture_size(info: VideoInfo, options: ExtractOptions) -> tuple[int, int]:
    """Width and height of the images: upright, square pixels, no wider than asked, never scaled up."""
    width, height = Fraction(info.width) * info.sample_aspect, Fraction(info.height)
    if info.rotation in (90, 270):
        width, height = height, width
    if options.width is not None and options.width < width:
        height, width = height * options.width / width, Fraction(options.width)
    return max(round(width), 1), max(round(height), 1)


def chain(info: VideoInfo, options: ExtractOptions) -> list[Filter]:
    """The filters from a decoded frame to packed rgb24."""
    width, height = picture_size(info, options)
    scale = {
        "w": str(width),
        "h": str(height),
        "flags": _EXACT,
        "in_color_matrix": info.matrix,
        "in_range": "full" if info.full_range else "limited",
    }
    turns = [_turn(step) for step in info.orientation]
    if "vflip" in info.orientation:
        turns.append(("copy", {}))  # vflip's rows lie backwards in memory, and scale passes RGB on as it is
    return [*turns, ("scale", scale), ("format", {"pix_fmts": "rgb24"})]


def _turn(step: str) -> Filter:
    name, _, direction = step.partition("=")
    return name, {"dir": direction} if direction else {}


def matrix(colorspace: int, height: int) -> str:
    """The matrix of a stream by its tag (ITU-T H.273), or by its height where it has none: HD is BT.709."""
    return _MATRICES.get(colorspace, "bt709" if height >= _HD_LINES else "smpte170m")


def orientation(display_matrix: bytes | None) -> tuple[tuple[str, ...], int]:
    """Filters that turn a frame upright, and the rotation in degrees clockwise.

    The display matrix is that of ISO/IEC 14496-12, nine 32-bit integers in row order, of which the upper left four turn
    and mirror.
    """
    if display_matrix is None or len(display_matrix) < 36:
        return (), 0
    a, b, _, c, d = struct.unpack("=5i", display_matrix[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        direction = {(True, False): "clock", (False, True): "cclock", (True, True): "cclock_flip"}.get(
            (b > 0, c > 0), "clock_flip"
        )
        return (f"transpose={direction}",), 90 if direction.startswith("clock") else 270
    if a < 0 and d < 0:
        return ("hflip", "vflip"), 180
    return (("hflip",) if a < 0 else ("vflip",) if d < 0 else ()), 0
