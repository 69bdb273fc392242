"""High dynamic range: from what a video stores to a picture that any screen shows, or to all 16 bits of it.

Tone mapping follows FFmpeg's ``zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,
zscale=t=bt709:m=bt709:r=pc`` by its formulas, in one pass. Every step is one that IEEE 754 rounds exactly, so the
pixels are the same on every machine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fiapx.media import filters
from fiapx.media.colours import BT2020_PRIMARIES, PRIMARIES, TRANSFERS
from fiapx.media.model import VideoInfo
from fiapx.media.picture import Picture, Pixels
from fiapx.media.style import Style

Float = NDArray[np.float32]
Samples = NDArray[np.uint16]

_STEPS: Final = 65_536
_WHITE: Final = 100.0
"""cd/m² that count as 1, as in SDR."""
_HLG_PEAK: Final = 1000.0
"""cd/m² of HLG's white on its reference display (ITU-R BT.2100)."""
_UNTAGGED_PEAK: Final = 1000.0
"""cd/m² where the video does not say how bright it gets; FFmpeg's tonemap takes the same."""
_BT2020: Final = ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730))
_TO_BT709: Final = {
    "bt709": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "smpte432": ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
"""From primaries to those of BT.709, in linear light (ITU-R BT.2087; SMPTE EG 432-1); all others count as BT.2020."""
_ROWS: Final = 32
"""Rows that are worked on at a time, so that all of it stays in the processor's cache."""


class Hdr:
    """From 16-bit samples of a PQ or HLG video to pictures: tone-mapped to SDR in BT.709, or kept."""

    def __init__(self, info: VideoInfo, style: Style) -> None:
        signal = np.minimum(np.arange(_STEPS) / filters.white(info), 1)
        self._keep = style.hdr == "keep"
        self._colours = _number(PRIMARIES, info.primaries) or BT2020_PRIMARIES, _number(TRANSFERS, info.transfer)
        self._weights = _TO_BT709.get(info.primaries, _BT2020)
        self._full = (signal * (_STEPS - 1)).round().astype(np.uint16)
        light = _pq(signal) if info.hdr == "PQ" else _hlg(signal)
        self._linear = (light / _WHITE).astype(np.float32)
        # A display's gamma of 2.4 (ITU-R BT.1886), over the square root of light: that is finer where it is dark.
        self._shown = (255 * np.linspace(0, 1, _STEPS) ** (2 / 2.4)).round().astype(np.uint8)
        self._scale = np.float32(1 / _hable(np.float64((info.peak or _UNTAGGED_PEAK) / _WHITE)))

    def __call__(self, red: Samples, green: Samples, blue: Samples) -> Picture:
        """A picture from planes of shape (height, width), whose memory it may share."""
        if self._keep:
            return Picture("rgb48", (red, green, blue), self._colours, self._full)
        return Picture("rgb", (self._tone_mapped(red, green, blue),))

    def _tone_mapped(self, red: Samples, green: Samples, blue: Samples) -> Pixels:
        pixels = np.empty((*red.shape, 3), np.uint8)
        for top in range(0, red.shape[0], _ROWS):
            rows = slice(top, top + _ROWS)
            linear = [self._linear[plane[rows]] for plane in (red, green, blue)]
            mixed = [_mixed(weights, linear) for weights in self._weights]
            brightest = np.maximum(np.maximum(np.maximum(*mixed[:2]), mixed[2]), np.float32(1e-6))
            gain = _hable(brightest) / brightest * self._scale
            for channel, plane in enumerate(mixed):
                shown = np.sqrt((plane * gain).clip(0, 1)) * np.float32(_STEPS - 1)
                pixels[rows, :, channel] = self._shown[(shown + np.float32(0.5)).astype(np.uint16)]
        return pixels


def _mixed(weights: tuple[float, float, float], planes: list[Float]) -> Float:
    red, green, blue = (plane * np.float32(weight) for weight, plane in zip(weights, planes, strict=True))
    mixed: Float = red + green + blue
    return mixed


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light in cd/m² (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light in cd/m² (ARIB STD-B67, ITU-R BT.2100), with a gamma of 1.2 on each channel, as zscale has it."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return _HLG_PEAK * scene**1.2


def _hable(light: Any) -> Any:
    """John Hable's filmic curve ("Filmic Tonemapping Operators", GDC 2010), in the precision of `light`."""
    a, b, c, d, e, f = 0.15, 0.50, 0.10, 0.20, 0.02, 0.30
    return (light * (light * a + c * b) + d * e) / (light * (light * a + b) + d * f) - e / f


def _number(names: dict[int, str], name: str) -> int:
    """The number by a name; 0, which stands for nothing, where it is not known."""
    return next((number for number, known in names.items() if known == name), 0)
