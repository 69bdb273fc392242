"""The engine against FFmpeg's own command line on one stream: which frames, at which times, with which pixels."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from fiapx.core.errors import FiapxError, NoFrames, UnsupportedFormat
from fiapx.core.options import extract_options
from tests.media.clips import ffmpeg
from tests.media.extracting import Extracted, run
from tests.media.streams import Selection, Stream

_NANOSECOND: Final = Fraction(1, 10**9)


class Entry(NamedTuple):
    """A frame of a result: the wanted time and the frame's own time in microseconds, and the MD5 of its RGB pixels."""

    time: int
    shown_at: int
    pixels: str


class Witness:
    """What FFmpeg gives for ``fps=F:round=up``, for several selections at once, and all frames that there are.

    The conversion to RGB is the engine's, so that choice and decoding are compared and nothing else.
    """

    def __init__(self, path: Path, stream: Stream, selections: Sequence[Selection], folder: Path) -> None:
        convert = (
            "scale=flags=bicubic+accurate_rnd+full_chroma_int+bitexact:in_color_matrix=smpte170m"
            f":in_range={'full' if stream.full_range else 'limited'},format=rgb24"
        )
        self._rates = {selection.fps: folder / f"{number}.md5" for number, selection in enumerate(selections)}
        everything = folder / "all.md5"
        # where a cut hides a first picture's leading ones, FFmpeg shifts the clock of MPEG-TS after the first frame
        clock = ("-copyts", "-start_at_zero") if (stream.start, stream.container) == ("cut", "ts") else ()
        arguments = [*clock, "-flags", "+bitexact", "-idct", "simple", "-threads", "1", "-i", str(path)]
        output = ("-fps_mode", "passthrough", "-f", "framemd5")
        for rate, file in self._rates.items():
            chain = f"fps={rate}:round=up,{convert}"
            arguments += ["-map", "0:V:0", "-vf", chain, *output, str(file)]
        arguments += ["-map", "0:V:0", "-vf", convert, *output, "-enc_time_base", "1/1000000000", str(everything)]
        if stream.start == "late":  # else FFmpeg counts time from the start of those streams that it reads, in MPEG-TS
            arguments += ["-map", "0:a", "-f", "null", "-"]
        ffmpeg(*arguments)
        self._all = sorted(_frames(everything))
        self.last = self._all[-1][0]
        """Time of the last frame."""

    def entries(self, selection: Selection) -> list[Entry]:
        """The frames of a selection; none where it lies before the first frame."""
        options = extract_options(**vars(selection))
        start, end = options.start or Fraction(), options.end
        first = max(start, self._all[0][0])
        if end is not None and end <= first:
            return []
        grid = [(time, md5) for time, md5 in _frames(self._rates[selection.fps]) if time >= start]
        chosen = [(time, md5) for time, md5 in grid if end is None or time < end]
        if not chosen:
            chosen = [(first, self._shown(first)[1])]
        return [Entry(_micros(time), _micros(self._shown(time)[0]), md5) for time, md5 in chosen]

    def _shown(self, time: Fraction) -> tuple[Fraction, str]:
        return [frame for frame in self._all if frame[0] <= time + _NANOSECOND][-1]


def _frames(file: Path) -> list[tuple[Fraction, str]]:
    """(time, MD5) of each frame in a file of FFmpeg's framemd5."""
    lines = file.read_text().splitlines()
    base = next(Fraction(line.split()[-1]) for line in lines if line.startswith("#tb 0:"))
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    return [(int(row[2]) * base, row[5].strip()) for row in rows]


def _micros(seconds: float | Fraction) -> int:
    return round(seconds * 10**6)


@dataclass
class Tally:
    """What has been compared so far, and what was wrong."""

    streams: set[Stream] = field(default_factory=set)
    selections: int = 0
    frames: int = 0
    missing: int = 0
    refused: int = 0
    """Selections that the fast engine leaves to the reference engine, for want of usable times."""
    open_ends: int = 0
    """Selections with entries more or less after the beginning of the last frame."""
    mismatches: list[str] = field(default_factory=list)
    """A line for each selection that differs, with all that is needed to see it again."""

    def compare(self, stream: Stream, selections: Sequence[Selection], folder: Path) -> None:
        """Make the stream and extract every selection from it with the fast engine."""
        path = stream.make(folder)
        try:
            witness = Witness(path, stream, selections, folder)
        except subprocess.CalledProcessError:  # a cut may leave no picture that can be decoded
            self._expect_nothing(path, stream)
            return
        self.streams.add(stream)
        for selection in selections:
            self.selections += 1
            try:
                found = self._extract(path, selection)
            except FiapxError as error:
                self.mismatches.append(f"{stream}, {selection}: {error.code}: {error.message}")
                continue
            expected = witness.entries(selection)
            self.frames += len(found)
            if found == expected:
                continue
            if stream.open_ended and _differ_in_the_end(found, expected, _micros(witness.last)):
                self.open_ends += 1
                continue
            self.missing += max(len(expected) - len(found), 0)
            self.mismatches.append(f"{stream}, {selection}: {_difference(found, expected)}")

    def _expect_nothing(self, path: Path, stream: Stream) -> None:
        """What FFmpeg cannot read gives an error here too."""
        with suppress(FiapxError):
            run(path, engine="fast")
            self.mismatches.append(f"{stream}: FFmpeg finds no picture in it")

    def _extract(self, path: Path, selection: Selection) -> list[Entry]:
        options: dict[str, Any] = vars(selection) | {"format": "png"}
        try:
            extracted = self._run(path, options)
        except NoFrames:
            return []
        rows = zip(extracted.manifest()["frames"], extracted.pixel_digests(), strict=True)
        return [Entry(_micros(row["time"]), _micros(row["shown_at"]), md5) for row, md5 in rows]

    def _run(self, path: Path, options: dict[str, Any]) -> Extracted:
        try:
            return run(path, **options, engine="fast")
        except UnsupportedFormat:
            self.refused += 1
            return run(path, **options, engine="auto")

    def counts(self) -> str:
        return (
            f"{len(self.streams)} streams, {self.selections} selections, {self.frames} frames compared, "
            f"{len(self.mismatches)} mismatches, {self.missing} missing, {self.refused} refused, "
            f"{self.open_ends} open ends"
        )

    def __str__(self) -> str:
        return "\n".join([*self.mismatches, self.counts()])


def _differ_in_the_end(found: list[Entry], expected: list[Entry], last: int) -> bool:
    """Whether there are just some entries more or less, which show the last frame once more."""
    shorter, longer = sorted((found, expected), key=len)
    more = longer[len(shorter) :]
    return shorter == longer[: len(shorter)] and all(entry.time > last and entry.shown_at == last for entry in more)


def _difference(found: list[Entry], expected: list[Entry]) -> str:
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        if ours != theirs:
            return f"frame {number} of {len(expected)} is {ours} instead of {theirs}"
    return f"{len(found)} frames instead of {len(expected)}"
