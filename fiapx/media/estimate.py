"""What an extraction would give and cost, found by doing a small part of it that is spread over the video."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

from fiapx.core.cores import granted_cores
from fiapx.core.errors import NoFrames, OutputTooLarge
from fiapx.core.options import ExtractOptions
from fiapx.core.text import size
from fiapx.media import plan
from fiapx.media.archive import Archive, frame_name
from fiapx.media.choose import choose
from fiapx.media.model import EncodedFrame, Index, Limits, Run, Source, Wanted
from fiapx.media.pictures import Pictures
from fiapx.media.pool import Pool, decoding
from fiapx.media.process import Watch
from fiapx.media.segments import Kind, Segment
from fiapx.media.sheet import Sheets

_FEW: Final = 16
"""Samples that are taken first."""
_MORE: Final = 48
"""Samples that are taken then, unless the first ones took longer than `_PATIENCE` seconds."""
_PATIENCE: Final = 1.5
_BUDGET: Final = 3.0
"""Seconds that the reference engine gets, which can only decode from the beginning."""
_PACKETS: Final = 1600
_FRAMES: Final = 128
"""What the first samples hold at most, together: long groups of pictures are not decoded to their ends."""
_OVERHEAD: Final = 470
"""Bytes that a frame takes beside its entry: its header in the directory, a line in each manifest."""
_FIXED: Final = 1200
"""Bytes of a ZIP without frames: the heads of the manifests, and what the ZIP needs for them."""
_HASHED: Final = 16 * 1024**2


@dataclass(frozen=True)
class Estimate:
    """`frames` is exact, or an upper bound where only decoding can tell; `size` (bytes of the ZIP) and `seconds` are
    projected from `sampled` frames, which were decoded and encoded as they would be."""

    frames: int
    at_most: bool
    size: int
    seconds: float
    sampled: int


def estimate(
    source: Source,
    options: ExtractOptions,
    *,
    limits: Limits = Limits(),
    ffmpeg: Path | None = None,
    cancelled: threading.Event | None = None,
    jobs: int | None = None,
) -> Estimate:
    """Estimate what `extract` would do with the same arguments. Raises what it would, as far as that shows by now:
    OutputTooLarge, unless there is but an upper bound."""
    watch, began, processes = Watch(limits.timeout, cancelled), time.monotonic(), jobs or granted_cores()
    with decoding(source, options, limits, watch, processes, None) as pool:
        pictures = Pictures(pool, source, options, limits, ffmpeg, watch)
        choice = choose(pictures.info, pictures.index, options, limits.max_frames, lambda pts: pts[: limits.max_frames])
        ready = time.monotonic() - began
        packed = _Packed(options)
        wanted = list(dict.fromkeys(want.pts for want in choice.wanted))
        if pictures.fast:
            samples = _Samples(pool, pictures.index, wanted, packed)
            kind: Kind = "image" if options.scenes is None else "thumbnail"  # scenes are found in thumbnails of all
            seconds = samples.seconds(processes, kind)
        else:
            seconds = _from_the_beginning(pictures, choice.wanted, packed)
        watch.check()
    if not packed.frames:
        raise NoFrames
    digest, sampled = _digest_seconds(source), packed.frames
    found = Estimate(
        frames=len(choice.wanted),
        at_most=options.cleans or options.scenes is not None,
        size=round(len(choice.wanted) * (packed.close() / sampled + _OVERHEAD)) + _FIXED,
        seconds=ready + max(seconds + digest / processes, digest),
        sampled=sampled,
    )
    if found.size > limits.max_output_bytes and not found.at_most:
        needs, allowed = size(found.size), size(limits.max_output_bytes)
        raise OutputTooLarge(
            f"The ZIP of {found.frames} frames needs about {needs}; {allowed} are allowed.",
            hint="Lower --fps, --width or --quality.",
        )
    return found


class _Packed:
    """The frames of the samples, which go into a ZIP that nobody keeps, since that takes its time too; and into contact
    sheets of their own, where such are wanted."""

    def __init__(self, options: ExtractOptions) -> None:
        self._output = _Nowhere()
        self._archive = Archive(self._output, sys.maxsize)
        self._sheets = Sheets(self._archive) if options.sheet else None
        self._extension = options.format
        self.frames = 0

    def add(self, frame: EncodedFrame) -> None:
        self.frames += 1
        self._archive.add(frame_name(self.frames, Fraction(), self._extension), frame.data)
        if self._sheets:
            self._sheets.add(Fraction(), frame.width, frame.height, frame.tile)

    def close(self) -> int:
        """Bytes of all entries."""
        if self._sheets:
            self._sheets.close(Fraction())
        return self._output.taken


class _Nowhere:
    def __init__(self) -> None:
        self.taken = 0

    def write(self, data: bytes | memoryview, /) -> int:
        self.taken += len(data)
        return len(data)


class _Samples:
    """Beginnings of runs, decoded where they would be. All children read the file from its beginning to where they are
    needed, so that samples are taken in order, and that reading is timed apart: it does not grow with the frames."""

    def __init__(self, pool: Pool, index: Index, wanted: Sequence[int], packed: _Packed) -> None:
        self._pool = pool
        self._packed = packed
        self._runs = list(plan.runs(index, wanted))
        needed = set(wanted)
        self._ordinals = {pts: ordinal for ordinal, pts in enumerate(index.pts) if pts in needed}

    def seconds(self, processes: int, kind: Kind) -> float:
        """Take samples; how long it will take to make pictures of this kind of everything."""
        near, far = self._first_frame(self._runs[0]), self._first_frame(self._runs[-1])
        starting = 0.0
        if len(self._runs) > 1:  # the other children start, while the first one works already
            starting = self._time([near] * 2 * processes) * (processes - 1) / processes
        reading = max(self._time([far]) - self._time([near]), 0.0)
        decoding, packets = self._decoded(_FEW, reading)
        if decoding < _PATIENCE and len(self._runs) > _FEW:
            decoding, packets = self._decoded(_MORE, reading)
        if kind != "image":
            decoding, packets = self._decoded(_FEW, reading, kind)
        return starting + reading + decoding * sum(map(_packets, self._runs)) / packets

    def _decoded(self, count: int, reading: float, kind: Kind = "image") -> tuple[float, int]:
        """Seconds, and packets that were decoded in them."""
        runs = len(self._runs)
        chosen = sorted({(2 * number + 1) * runs // (2 * count) for number in range(count)})
        samples = [self._beginning(number) for number in chosen]
        elapsed = self._time(samples, kind, self._packed.add if kind == "image" else None)
        return max(elapsed - reading, 0.0), sum(map(_packets, samples))

    def _time(
        self, samples: Sequence[Run], kind: Kind = "image", take: Callable[[EncodedFrame], None] | None = None
    ) -> float:
        began = time.monotonic()
        for part in self._pool.frames(Segment((sample,), kind) for sample in samples):
            if take and isinstance(part, EncodedFrame):
                take(part)
        return time.monotonic() - began

    def _beginning(self, number: int) -> Run:
        """One, two or more of the run's wanted frames, so that samples end at different places in their groups; with
        few runs, more of each."""
        run, samples = self._runs[number], min(_FEW, len(self._runs))
        end = run.first + _PACKETS // samples
        near = [pts for pts in run.wanted[: _FRAMES // samples] if self._ordinals[pts] < end] or run.wanted[:1]
        kept = tuple(near[: 1 + number % len(near)] if len(self._runs) > _FEW else near)
        return Run(run.first, max(self._ordinals[pts] for pts in kept), kept)

    def _first_frame(self, run: Run) -> Run:
        return Run(run.first, self._ordinals[run.wanted[0]], run.wanted[:1])


def _packets(run: Run) -> int:
    return run.last - run.first + 1


def _from_the_beginning(pictures: Pictures, wanted: Sequence[Wanted], packed: _Packed) -> float:
    """Decode for a while with the reference engine; how long it will take to decode everything."""
    shown, began, first = pictures.index.shown(), time.monotonic(), (0, 0.0)
    with closing(cast("Generator[tuple[Wanted, EncodedFrame]]", pictures.matched(wanted))) as matched:
        for want, frame in matched:
            packed.add(frame)
            reached, elapsed = bisect_right(shown, want.pts), time.monotonic() - began
            first = first if first[0] else (reached, elapsed)  # starting FFmpeg takes its time too
            if elapsed - first[1] > _BUDGET and packed.frames >= _FEW and reached > first[0]:
                return elapsed + (elapsed - first[1]) * (len(shown) - reached) / (reached - first[0])
    return time.monotonic() - began


def _digest_seconds(source: Source) -> float:
    """How long the source's SHA-256 takes, which is computed beside the decoding."""
    descriptor = source.file.fileno()
    began, data = time.monotonic(), os.pread(descriptor, _HASHED, 0)
    if source.sha256 is not None or not data:
        return 0.0
    hashlib.sha256(data)
    return (time.monotonic() - began) * os.fstat(descriptor).st_size / len(data)
