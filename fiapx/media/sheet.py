"""Contact sheets: the frames in small, side by side in a few JPEGs, and WebVTT that says where each of them is.

Players show such thumbnails over their seek bar: each cue's text is ``sheet_001.jpg#xywh=X,Y,WIDTH,HEIGHT`` (W3C, Media
Fragments URI).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from fiapx.media.archive import Archive
from fiapx.media.model import tile_size

COLUMNS: Final = 10
ROWS: Final = 10
_QUALITY: Final = 80


@dataclass(frozen=True)
class SheetRecord:
    """A contact sheet in the manifest: `frames` pictures of `width` by `height` pixels, in rows of `columns`; `offset`
    and `bytes` are its range in the ZIP."""

    file: str
    frames: int
    columns: int
    width: int
    height: int
    bytes: int
    offset: int
    sha256: str


class Sheets:
    """Takes frames in order, and writes a sheet whenever one is full."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._tiles: list[bytes] = []
        self._size = (0, 0)
        self._cues: list[tuple[Fraction, str]] = []
        self.records: list[SheetRecord] = []

    def add(self, time: Fraction, width: int, height: int, tile: bytes) -> None:
        """A frame of this size that is shown at `time`, and its packed RGB of `tile_size`."""
        row, column = divmod(len(self._tiles), COLUMNS)
        self._size = across, down = tile_size(width, height)
        place = f"{self._name()}#xywh={column * across},{row * down},{across},{down}"
        self._cues.append((time, place))
        self._tiles.append(tile)
        if len(self._tiles) == COLUMNS * ROWS:
            self._write()

    def close(self, end: Fraction) -> None:
        """Write what is left, and the cues; the last ends with the video."""
        if self._tiles:
            self._write()
        times = [*(time for time, _ in self._cues), end]
        cues = (
            f"{_clock(begin)} --> {_clock(until)}\n{place}\n"
            for (begin, place), until in zip(self._cues, times[1:], strict=True)
        )
        self._archive.add("sheet.vtt", "\n".join(("WEBVTT\n", *cues)).encode())

    def _name(self) -> str:
        return f"sheet_{len(self.records) + 1:03d}.jpg"

    def _write(self) -> None:
        import numpy as np

        from fiapx.media.encode import jpeg
        from fiapx.media.picture import Picture

        (width, height), count = self._size, len(self._tiles)
        columns = min(count, COLUMNS) if not self.records else COLUMNS
        pixels = np.zeros((math.ceil(count / columns) * height, columns * width, 3), np.uint8)
        for number, tile in enumerate(self._tiles):
            top, left = number // columns * height, number % columns * width
            pixels[top : top + height, left : left + width] = np.frombuffer(tile, np.uint8).reshape(height, width, 3)
        entry = self._archive.add(self._name(), jpeg(Picture("rgb", (pixels,)), _QUALITY))
        self.records.append(
            SheetRecord(entry.name, count, columns, width, height, entry.size, entry.offset, entry.sha256)
        )
        self._tiles.clear()


def _clock(time: Fraction) -> str:
    minutes, milliseconds = divmod(int(time * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}"
