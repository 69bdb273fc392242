"""From a decoded frame to an upright picture of square pixels: one chain of filters, the same for both engines."""

from __future__ import annotations

import math
import re
import struct
from fractions import Fraction
from typing import Final, Literal

from fiapx.core.errors import FrameTooLarge
from fiapx.media.colours import PRIMARIES, TRANSFERS, UNKNOWN
from fiapx.media.model import MAX_NUMBER, VideoInfo
from fiapx.media.style import Style

Filter = tuple[str, dict[str, str]]
"""A filter's name and its options."""
Layout = Literal["gray", "rgb", "rgba", "rgb48", "yuv420"]
"""How a picture's pixels lie in memory; see `Picture`."""

HDR_FORMAT: Final = "gbrp16le"
"""What comes out of the filters for HDR."""
_EXACT: Final = "bicubic+accurate_rnd+full_chroma_int+bitexact"
"""Without accurate_rnd and full_chroma_int, swscale's fast paths are up to 3 of 255 off and differ between CPUs.

With them it makes planar RGB of YUV, and packs that in a second step, in less than half the time of doing it at once.
"""

_MATRICES: Final = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_JFIF: Final = "bt470bg"
"""BT.601 by the name that colorspace has for it."""
_SPACES: Final = {
    "bt709": "bt709",
    "fcc": "fcc",
    "bt470": _JFIF,
    "smpte170m": _JFIF,
    "smpte240m": "smpte240m",
    "bt2020": "bt2020nc",
}
"""The names that the filter colorspace has for what scale calls otherwise."""
_YUV: Final = re.compile(r"yuvj?4\d\dp(?:(\d+)[bl]e)?")
_ALPHA: Final = re.compile(r"yuva|rgba|bgra|argb|abgr|gbrap|ya8|ya16|pal8")
_GREY: Final = re.compile(r"gray(?:(\d+)[bl]e)?")
"""Some versions of swscale take it for full range, whatever they are told."""
_DEINTERLACE: Final = {"mode": "frame", "redge": "0", "ecost": "1", "mcost": "0", "dcost": "0"}
"""Of a single frame, since its neighbours are not decoded. With costs and edges, versions of FFmpeg differ."""
_HD_LINES: Final = 720
_TURNS: Final = frozenset(
    {"hflip", "vflip", *(f"transpose={way}" for way in ("clock", "cclock", "clock_flip", "cclock_flip"))}
)
_MAX_SIDE: Final = 65_500
"""Pixels; libjpeg's limit."""
_MAX_WEBP_SIDE: Final = 16_383


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise FrameTooLarge for pictures that are too large to decode or to write."""
    if width * height > max_pixels or max(width, height) > _MAX_SIDE:
        raise FrameTooLarge(
            f"The pictures are {width}x{height}; {max_pixels} pixels are allowed, and {_MAX_SIDE} a side. "
            "Where only their aspect ratio makes them so large, --width helps."
        )


def check_info(info: VideoInfo) -> None:
    """Raise ValueError for what `chain` must not put into a graph: `info` comes from a child that is not trusted."""
    numbers = (info.width, info.height, info.start_pts, info.own_start, info.declared_frames, info.rotation)
    names = (info.format, info.codec, info.pixel_format)
    if not (
        {*info.orientation} <= _TURNS
        and info.matrix in _MATRICES.values()
        and info.primaries in {*PRIMARIES.values(), UNKNOWN}
        and info.transfer in {*TRANSFERS.values(), UNKNOWN}
        and 0 <= info.peak < math.inf
        and all(isinstance(number, int) and abs(number) < MAX_NUMBER for number in numbers)
        and all(isinstance(name, str) and len(name) < 100 for name in names)
        and min(info.width, info.height) > 0
        and min(info.sample_aspect, info.time_base) > 0
        and abs(info.declared_duration or 0) < MAX_NUMBER
    ):
        raise ValueError("the description of the video makes no sense")


def picture_size(info: VideoInfo, style: Style) -> tuple[int, int]:
    """Width and height of the images: upright, square pixels, fit into what was asked, scaled up only if asked to.

    Raises FrameTooLarge for more than a WebP can hold.
    """
    width, height = Fraction(info.width) * info.sample_aspect, Fraction(info.height)
    if info.rotation in (90, 270):
        width, height = height, width
    bounds = [bound / side for bound, side in ((style.width, width), (style.height, height)) if bound is not None]
    if not style.upscale:
        bounds.append(Fraction(1))
    size = max(round(width * min(bounds)), 1), max(round(height * min(bounds)), 1)
    if style.format == "webp" and max(size) > _MAX_WEBP_SIDE:
        raise FrameTooLarge(f"The pictures are {size[0]}x{size[1]}; a WebP holds {_MAX_WEBP_SIDE} pixels a side.")
    return size


def layout(info: VideoInfo, style: Style) -> Layout:
    """What pictures are made of, once HDR is tone-mapped.

    JPEG is made of YUV where it can be, which spares the way to RGB and back.
    """
    if info.hdr:
        return "rgb48" if style.hdr == "keep" else "rgb"
    if _ALPHA.match(info.pixel_format):
        return "rgba"
    even = not any(side % 2 for side in picture_size(info, style))  # the filter colorspace takes no others
    if style.format == "jpg" and even and _YUV.fullmatch(info.pixel_format):
        return "yuv420"
    return "rgb"


def chain(info: VideoInfo, style: Style) -> list[Filter]:
    """The filters from a decoded frame to one of `layout`; to planar 16-bit RGB from HDR."""
    width, height = picture_size(info, style)
    side = "full" if info.full_range or _GREY.fullmatch(info.pixel_format) else "limited"
    scale = {"w": str(width), "h": str(height), "flags": _EXACT, "in_color_matrix": info.matrix, "in_range": side}
    before = _prepared(info, style)
    if layout(info, style) == "yuv420":
        same = {"out_color_matrix": info.matrix, "out_range": side}
        return [*before, ("scale", scale | same), ("format", {"pix_fmts": _yuv420(info)}), *_to_jfif(info)]
    if info.hdr:
        return [*before, ("scale", scale), ("format", {"pix_fmts": HDR_FORMAT})]
    planar, packed = ("gbrap", "rgba") if layout(info, style) == "rgba" else ("gbrp", "rgb24")
    steps = [("format", {"pix_fmts": planar}), ("scale", {})] if info.pixel_format.startswith("yuv") else []
    return [*before, ("scale", scale), *steps, ("format", {"pix_fmts": packed})]


def _prepared(info: VideoInfo, style: Style) -> list[Filter]:
    """Deinterlaced, grey in full range, and upright."""
    steps: list[Filter] = []
    if style.deinterlace != "off" and info.pixel_format.startswith(("yuv", "gray")):
        steps.append(("estdif", {**_DEINTERLACE, "deint": "interlaced" if style.deinterlace == "auto" else "all"}))
    if (grey := _GREY.fullmatch(info.pixel_format)) and not info.full_range:
        unit = 2 ** (int(grey.group(1) or 8) - 8)
        steps.append(("lut", {"c0": f"(val-{16 * unit})*{256 * unit - 1}/{219 * unit}+0.5"}))  # and it clips
    steps += [_turn(step) for step in info.orientation]
    if "vflip" in info.orientation:
        steps.append(("copy", {}))  # vflip's rows lie backwards in memory, and scale may pass them on as they are
    return steps


def white(info: VideoInfo) -> int:
    """What swscale makes of white in 16-bit RGB: it shifts what it makes in 8 bits, or what full range has."""
    found = _YUV.fullmatch(info.pixel_format)
    if found is None:
        return 0xFFFF
    depth = int(found.group(1) or 8) if info.full_range else 8
    return (1 << 16) - (1 << 16 - depth)


def _yuv420(info: VideoInfo) -> str:
    """The format of 4:2:0 that loses none of the source's bits up to 12: the most that colorspace takes."""
    found = _YUV.fullmatch(info.pixel_format)
    depth = int(found.group(1) or 8) if found else 8
    return "yuv420p" if depth == 8 else "yuv420p10" if depth <= 10 else "yuv420p12"


def _to_jfif(info: VideoInfo) -> list[Filter]:
    """To full range and BT.601 by one exact matrix: 0.7 ms a 1080p frame, where the way through RGB takes 12."""
    if info.full_range and _SPACES[info.matrix] == _JFIF and _yuv420(info) == "yuv420p":
        return []
    colours = {"iall": "bt709", "all": "bt709"}  # the same on both sides: primaries and transfer stay as they are
    source = {"ispace": _SPACES[info.matrix], "irange": "pc" if info.full_range else "tv"}
    return [("colorspace", {**colours, **source, "space": _JFIF, "range": "pc", "format": "yuv420p"})]


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
