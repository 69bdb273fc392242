"""From a rendered picture to what leaves the decoder: an image file, and what is to be known of it. Both engines."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fiapx.media.encode import encode
from fiapx.media.model import THUMBNAIL, EncodedFrame, Look, VideoInfo, tile_size
from fiapx.media.picture import Picture, Pixels, means
from fiapx.media.render import Rendering, rendering
from fiapx.media.segments import Kind
from fiapx.media.style import Style

_DARK: Final = 32
"""Luma, of 255, below which a pixel counts as black: what FFmpeg's blackdetect takes, in full range."""
_LOOKED_AT: Final = 640
"""Longest side, in pixels, of the picture whose sharpness is measured: that of a larger one says more of its grain."""


class Drawing:
    """How the pictures of one kind of segment are rendered, and what is made of them."""

    def __init__(self, kind: Kind, info: VideoInfo, style: Style) -> None:
        self._style = style
        self._whole = kind == "image"
        self.rendering: Rendering = rendering(info, style) if self._whole else _thumbnails(info)

    def finish(self, pts: int, picture: Picture) -> EncodedFrame:
        """The frame as it leaves the decoder."""
        if not self._whole:
            return EncodedFrame(pts, picture.width, picture.height, picture.planes[0].tobytes())
        style = self._style
        tile = picture.small(*tile_size(picture.width, picture.height)).tobytes() if style.sheet else b""
        look = look_at(picture.luma()) if style.cleans else None
        return EncodedFrame(pts, picture.width, picture.height, encode(picture, style), look, tile)


def look_at(luma: Pixels) -> Look:
    """Measure brightness of shape (height, width)."""
    height, width = luma.shape
    scale = max(width, height) / _LOOKED_AT
    size = max(round(width / scale), 1), max(round(height / scale), 1)
    small = means(luma, *size) if scale > 1 else luma.astype(np.float64)
    thumbnail = means(luma, *THUMBNAIL).round().astype(np.uint8)
    return Look(float(np.mean(luma < _DARK)), _sharpness(small), thumbnail.tobytes())


def _sharpness(luma: NDArray[np.float64]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., 2000), as a share of the variance of brightness: so it does not
    depend on contrast. Pictures that are in focus have 0.03 and more."""
    if min(luma.shape) < 3:
        return 1.0
    around = luma[1:-1, :-2] + luma[1:-1, 2:] + luma[:-2, 1:-1] + luma[2:, 1:-1]
    return float((around - 4 * luma[1:-1, 1:-1]).var() / max(luma.var(), 1.0))


def _thumbnails(info: VideoInfo) -> Rendering:
    """Small grey pictures for comparisons, whose shape is no matter."""
    width, height = THUMBNAIL
    side = "full" if info.full_range else "limited"
    scale = {"w": str(width), "h": str(height), "flags": "area+bitexact", "in_range": side, "out_range": "full"}
    return Rendering((("scale", scale), ("format", {"pix_fmts": "gray"})), "gray", "gray", width, height)
