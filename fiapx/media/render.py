"""How a video's frames become pictures: the filters of both engines, and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fiapx.core.options import ExtractOptions
from fiapx.media import filters
from fiapx.media.filters import Filter
from fiapx.media.model import VideoInfo
from fiapx.media.picture import Layout, Picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True)
class Rendering:
    """A chain of libavfilter's filters, and the format in which `width` by `height` pixels come out of it."""

    filters: tuple[Filter, ...]
    pixel_format: str
    """FFmpeg's name of it."""
    layout: Layout
    width: int
    height: int

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
        return [(self.height, self.width * 3)]

    def _picture(self, planes: list[Any]) -> Picture:
        return Picture(self.layout, tuple(plane.reshape(self.height, self.width, 3) for plane in planes))


def rendering(info: VideoInfo, options: ExtractOptions) -> Rendering:
    """How to render the video as it was asked for."""
    width, height = filters.picture_size(info, options)
    return Rendering(tuple(filters.chain(info, options)), "rgb24", "rgb", width, height)
