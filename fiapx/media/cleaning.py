"""Which of the chosen frames are left out for what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fiapx.core.options import ExtractOptions
from fiapx.media.model import Look

BLACK: Final = 0.98
"""Share of black pixels from which on a frame is black."""
BLURRED: Final = 0.01
"""Sharpness below which a frame is blurred (see `draw`): at 720 lines, a Gaussian blur of 4 pixels."""


@dataclass(frozen=True)
class Verdict:
    """Why a frame is left out, and the measure that says so."""

    reason: str
    measure: float


class Cleaning:
    """Frames are judged in order; each is compared with the last one that was kept."""

    def __init__(self, options: ExtractOptions) -> None:
        self._options = options
        self._kept: bytes | None = None

    def verdict(self, look: Look | None) -> Verdict | None:
        """Why to leave the frame out; None to keep it."""
        if look is None:
            return None
        if self._options.drop_black and look.dark >= BLACK:
            return Verdict("black", round(look.dark, 4))
        if self._options.drop_blurred and look.sharpness < BLURRED:
            return Verdict("blurred", round(look.sharpness, 4))
        if self._options.drop_similar is not None and self._kept is not None:
            from fiapx.media.likeness import difference

            if (measure := difference(self._kept, look.thumbnail)) < self._options.drop_similar:
                return Verdict("similar", round(measure, 4))
        self._kept = look.thumbnail
        return None
