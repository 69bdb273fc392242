"""Videos whose frames' numbers and times are known, and what an extraction of them gave."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.media.clips import BY_NAME, read_number
from tests.media.extracting import Extracted, run


@dataclass(frozen=True)
class Timed:
    """A clip, and the seconds from the container's start at which its frames are shown."""

    name: str
    times: tuple[Fraction, ...]

    @property
    def end(self) -> Fraction:
        """Where its last frame ends; all of these clips have 25 frames a second there."""
        return self.times[-1] + Fraction(1, 25)

    def make(self, clips: Path) -> Path:
        return BY_NAME[self.name].make(clips)

    def shown_at(self, time: Fraction) -> int:
        """The number of the frame that is shown then; the first one before that begins."""
        return max((number for number, begin in enumerate(self.times) if begin <= time), default=0)


def _even(name: str, begin: Fraction = Fraction()) -> Timed:
    return Timed(name, tuple(begin + Fraction(number, 25) for number in range(75)))


TIMED = [
    _even("h264-bframes.mp4"),
    _even("h264-open-gop.mkv"),
    _even("hevc-open-gop.mp4"),
    Timed("h264-vfr.mp4", tuple(Fraction(number + number // 7 * 3, 25) for number in range(75))),
    _even("late-start.mkv", Fraction(18, 25)),
    _even("mpeg2.ts"),
]


def numbers(extracted: Extracted) -> list[int]:
    """The numbers of the frames, in order."""
    return [read_number(image) for image in extracted.images()]


def numbers_of(path: Path, engine: str, **options: Any) -> list[int]:
    """The numbers of the frames that are extracted by these options."""
    return numbers(run(path, engine=engine, **options))
