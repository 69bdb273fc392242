"""A rendered picture, before it is encoded: its pixels, and the measures that are taken of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fiapx.media.filters import Layout

Pixels = NDArray[np.uint8]

_ROWS: Final = 32
"""Rows that are worked on at a time, so that all of it stays in the processor's cache."""
_LUMA: Final = tuple(np.uint32(weight) for weight in (19595, 38470, 7471))
"""BT.601's weights of red, green and blue, in 65536ths (ITU-T T.871, JFIF)."""


@dataclass(frozen=True)
class Picture:
    """One picture. `planes` by layout:

    - ``gray``: (height, width, 1) uint8
    - ``rgb``: (height, width, 3) uint8
    - ``rgba``: (height, width, 4) uint8, alpha not multiplied in
    - ``rgb48``: red, green and blue, each (height, width) uint16: numbers of `levels`
    - ``yuv420``: luma (height, width) and twice chroma (height / 2, width / 2), uint8, in BT.601 and full range with
      chroma between the pixels: what a JPEG file holds (ITU-T T.871)
    """

    layout: Layout
    planes: tuple[NDArray[Any], ...]
    colours: tuple[int, int] | None = None
    """Primaries and transfer (ITU-T H.273), where they are not those of SDR."""
    levels: NDArray[np.uint16] | None = None
    """What the samples of ``rgb48`` stand for, in 65535ths."""

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.planes[0].shape[0])

    def luma(self) -> Pixels:
        """Brightness by BT.601, of shape (height, width)."""
        if self.layout == "yuv420":
            return self.planes[0]
        rgb = self.rgb()
        luma = np.empty(rgb.shape[:2], np.uint8)
        for top in range(0, self.height, _ROWS):
            rows = rgb[top : top + _ROWS].astype(np.uint32)
            red, green, blue = (rows[..., channel] * weight for channel, weight in enumerate(_LUMA))
            luma[top : top + _ROWS] = (red + green + blue + 32768) >> 16
        return luma

    def small(self, width: int, height: int) -> Pixels:
        """RGB of shape (height, width, 3): the mean of each block of pixels."""
        if self.layout != "yuv420":
            return means(self.rgb(), width, height).round().astype(np.uint8)
        luma, blue, red = (means(plane, width, height) for plane in self.planes)
        blue, red = blue - 128, red - 128
        rgb = np.stack((luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue), axis=-1)
        return rgb.round().clip(0, 255).astype(np.uint8)

    def rgb(self) -> Pixels:
        """Packed RGB of shape (height, width, 3), over black where there is alpha; not for ``yuv420``."""
        pixels: Pixels = self.planes[0]
        if self.layout == "rgb48":
            high = np.empty((self.height, self.width, 3), np.uint8)
            for top in range(0, self.height, _ROWS):
                high[top : top + _ROWS] = self.rgb48(top, top + _ROWS) >> 8
            return high
        if self.layout != "rgba":
            return pixels
        return ((pixels[..., :3].astype(np.uint16) * pixels[..., 3:] + 127) // 255).astype(np.uint8)

    def rgb48(self, top: int, bottom: int) -> NDArray[np.uint16]:
        """Packed RGB of these rows of ``rgb48``, of shape (rows, width, 3): of all rows, it would be the largest thing
        that is held."""
        assert self.levels is not None
        return np.stack([self.levels[plane[top:bottom]] for plane in self.planes], axis=-1)


def means(plane: NDArray[Any], width: int, height: int) -> NDArray[np.float64]:
    """Means over `height` by `width` blocks, whose borders lie at the nearest whole pixels."""
    rows = np.arange(height + 1) * plane.shape[0] // height
    columns = np.arange(width) * plane.shape[1] // width
    # rows one block after the other: reduceat would make whole numbers of 32 bits of the plane first
    blocks = (plane[top : max(bottom, top + 1)].sum(axis=0, dtype=np.uint32) for top, bottom in pairwise(rows))
    sums = np.stack([np.add.reduceat(block, columns, axis=0) for block in blocks])
    counts = np.outer(_lengths(rows[:-1], plane.shape[0]), _lengths(columns, plane.shape[1]))
    return sums / counts.reshape(counts.shape + (1,) * (plane.ndim - 2))


def _lengths(starts: NDArray[np.int64], end: int) -> NDArray[np.int64]:
    """Of the blocks that begin at `starts`; 1 where two begin at the same place, as reduceat has it."""
    return np.maximum(np.diff(starts, append=end), 1)
