"""How a video's frames become pictures: the filters of both engines, and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from fiapx.media import filters
from fiapx.media.filters import Filter, Layout
from fiapx.media.hdr import Hdr
from fiapx.media.model import VideoInfo
from fiapx.media.picture import Picture, Pixels
from fiapx.media.style import Style

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_FORMATS: Final[dict[Layout, str]] = {"gray": "gray", "rgb": "rgb24", "rgba": "rgba", "yuv420": "yuv420p"}
_CHANNELS: Final[dict[Layout, int]] = {"gray": 1, "rgb": 3, "rgba": 4}
"""Of packed pixels."""


@dataclass(frozen=True)
class Rendering:
    """A chain of libavfilter's filters, and the format in which `width` by `height` pixels come out of it."""

    filters: tuple[Filter, ...]
    pixel_format: str
    """FFmpeg's name of it."""
    layout: Layout
    width: int
    height: int
    hdr: Hdr | None = None
    """What makes pictures of 16-bit samples, where those come out."""

    @property
    def frame_bytes(self) -> int:
        """Size of a raw frame, with no padding anywhere."""
        return sum(rows * row for rows, row in self._planes())

    def from_bytes(self, data: bytes) -> Picture:
        """A picture from `frame_bytes` raw bytes, as FFmpeg's rawvideo has them."""
        planes, begin = [], 0
        for rows, row in self._planes():
            plane = np.frombuffer(data, np.uint8, rows * row, begin)
            planes.append(plane.reshape(rows, row))
            begin += rows * row
        return self._picture(planes)

    def from_frame(self, frame: VideoFrame) -> Picture:
        """A picture that shares the memory of a frame which came out of the filters."""
        planes = []
        for plane, (rows, row) in zip(frame.planes, self._planes(), strict=True):
            data = np.frombuffer(memoryview(cast("Any", plane)), np.uint8)
            planes.append(data.reshape(-1, plane.line_size)[:rows, :row])
        return self._picture(planes)

    def _planes(self) -> list[tuple[int, int]]:
        """Rows, and bytes a row, of each plane."""
        if self.hdr:
            return [(self.height, self.width * 2)] * 3
        if self.layout == "yuv420":
            return [(self.height, self.width), *[(self.height // 2, self.width // 2)] * 2]
        return [(self.height, self.width * _CHANNELS[self.layout])]

    def _picture(self, planes: list[Pixels]) -> Picture:
        if self.hdr:
            green, blue, red = (plane.view("<u2") for plane in planes)
            return self.hdr(red, green, blue)
        if channels := _CHANNELS.get(self.layout):
            planes = [plane.reshape(self.height, self.width, channels) for plane in planes]
        return Picture(self.layout, tuple(planes))


def rendering(info: VideoInfo, style: Style) -> Rendering:
    """How to render the video as it was asked for."""
    layout = filters.layout(info, style)
    width, height = filters.picture_size(info, style)
    hdr = Hdr(info, style) if info.hdr else None
    pixel_format = filters.HDR_FORMAT if hdr else _FORMATS[layout]
    return Rendering(tuple(filters.chain(info, style)), pixel_format, layout, width, height, hdr)
