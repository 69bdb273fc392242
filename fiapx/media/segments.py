"""Segments: the parts that the work is split into, and what one of them is on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, Literal

from fiapx.media.model import Run, VideoInfo

Kind = Literal["image", "thumbnail"]
"""What is made of the frames: files as they were asked for, or small grey pictures to compare."""

_PACKETS: Final = 200
_FRAMES: Final = 16


_FULL_HD: Final = 1920 * 1080
_ENCODING: Final = 5
"""How many pictures are decoded in the time in which one is made an image file."""
_ALONE: Final = 2
"""Threads that decode a segment which is all there is. It is so on every machine, and for any number of processes: what
decoders make of a damaged video may depend on it."""


@dataclass(frozen=True)
class Segment:
    """A few runs of the decoder. Their frames, in order of pts, joined in order of segments, are the result."""

    runs: tuple[Run, ...]
    kind: Kind = "image"
    threads: int = 1
    """Of the decoder."""

    @property
    def wanted(self) -> tuple[int, ...]:
        """The pts of its frames, ascending."""
        return tuple(pts for run in self.runs for pts in run.wanted)


def segments(runs: Iterable[Run], kind: Kind = "image") -> Iterator[Segment]:
    """Few groups of pictures each, so that little is held while an earlier segment is unfinished; enough of them that
    handing them out costs nothing (intra-only codecs have groups of one)."""
    groups = _grouped(runs)
    beginning = tuple(islice(groups, 2))
    threads = 1 if len(beginning) > 1 else _ALONE
    return (Segment(group, kind, threads) for group in chain(beginning, groups))


def shares(segments: Iterable[Segment], info: VideoInfo, size: float) -> Iterator[tuple[Segment, ...]]:
    """Segments that follow each other, as many at a time as take as long as `size` pictures of 1080p to decode."""
    held: list[Segment] = []
    effort = 0.0
    scale = info.width * info.height / _FULL_HD
    for segment in segments:
        held.append(segment)
        packets = sum(run.last - run.first + 1 for run in segment.runs)
        effort += (packets + _ENCODING * len(segment.wanted)) * scale
        if effort >= size:
            yield tuple(held)
            held, effort = [], 0.0
    if held:
        yield tuple(held)


def _grouped(runs: Iterable[Run]) -> Iterator[tuple[Run, ...]]:
    held: list[Run] = []
    for run in runs:
        held.append(run)
        packets = sum(each.last - each.first + 1 for each in held)
        if packets >= _PACKETS or sum(len(each.wanted) for each in held) >= _FRAMES:
            yield tuple(held)
            held = []
    if held:
        yield tuple(held)
