"""Streams to compare the engine with FFmpeg on: every way of storing pictures and times that FFmpeg can write here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from hypothesis import strategies as st

from tests.media.clips import Clip, ffmpeg

Timing = Literal["constant", "gaps", "jitter"]
Start = Literal["zero", "late", "offset", "cut"]

_AUDIO: Final = {"mp4": "aac", "mov": "pcm_s16le", "mkv": "pcm_s16le", "avi": "pcm_s16le", "ts": "mp2", "mpg": "mp2",
                 "flv": "libmp3lame", "webm": "libvorbis", "ogv": "libvorbis", "wmv": "wmav2"}  # fmt: skip
"""The audio that goes along with a late video, for each container."""
_LATE: Final = 0.36
"""Seconds by which the video starts after the container."""
_COLOURS: Final = "format=rgb24,lutrgb=g=negval:b=val/2"


@dataclass(frozen=True)
class Codec:
    """What an encoder can do. `reorders`: it has B-frames. `hides`: it has pictures that are decoded and not shown."""

    arguments: tuple[str, ...]
    containers: tuple[str, ...]
    pixels: str = "yuv420p"
    reorders: bool = False
    hides: bool = False
    intra: bool = False
    fine: bool = True
    """Whether its clock can be as fine as a millisecond."""


CODECS: Final = {
    "h264": Codec(("libx264", "-preset", "veryfast"), ("mp4", "mkv", "ts", "mov", "flv"), reorders=True),
    "hevc": Codec(("libx265", "-preset", "ultrafast"), ("mp4", "mkv", "ts"), reorders=True),
    "mpeg2": Codec(("mpeg2video", "-q:v", "4"), ("ts", "mpg", "mkv", "mp4"), reorders=True, fine=False),
    "mpeg1": Codec(("mpeg1video", "-q:v", "4"), ("mpg", "mkv"), reorders=True, fine=False),
    "mpeg4": Codec(("mpeg4", "-q:v", "4"), ("mp4", "mkv", "ts"), reorders=True),
    "vp8": Codec(("libvpx", "-cpu-used", "8", "-b:v", "500k"), ("webm", "mkv"), hides=True),
    "vp9": Codec(("libvpx-vp9", "-cpu-used", "8", "-b:v", "500k"), ("webm", "mp4", "mkv"), hides=True),
    "av1": Codec(("libaom-av1", "-cpu-used", "8", "-b:v", "500k"), ("mkv", "mp4", "webm"), hides=True),
    "prores": Codec(("prores", "-profile:v", "1"), ("mov", "mkv"), "yuv422p10le", intra=True),
    "mjpeg": Codec(("mjpeg", "-q:v", "4"), ("mov", "mkv", "avi"), "yuvj420p", intra=True),
    "png": Codec(("png",), ("mov", "mkv"), "rgb24", intra=True),
    "theora": Codec(("libtheora", "-q:v", "7"), ("ogv", "mkv"), fine=False),
    "flv1": Codec(("flv", "-q:v", "4"), ("flv", "mkv")),
    "wmv2": Codec(("wmv2", "-q:v", "4"), ("wmv", "mkv")),
    "msmpeg4": Codec(("msmpeg4", "-q:v", "4"), ("avi", "mkv")),
}


@dataclass(frozen=True)
class Stream:
    """The recipe of a video file; its repr is all that is needed to make it again."""

    codec: str
    container: str
    timing: Timing = "constant"
    start: Start = "zero"
    bframes: int = 0
    """Of a codec that has none: whether it may hide pictures."""
    open_gop: bool = False
    gop: int = 12
    frames: int = 40
    rate: str = "25"

    @property
    def full_range(self) -> bool:
        return CODECS[self.codec].pixels.startswith("yuvj")

    @property
    def open_ended(self) -> bool:
        """Whether it does not say how long its last frame is shown, so that versions of FFmpeg guess differently. Of
        MP4 whose edit list begins in a gap, 5.1 takes the list's end, and 9.0 the last frame's."""
        in_a_gap = (self.timing, self.start) == ("gaps", "cut") and self.container in {"mp4", "mov"}
        return self.timing == "jitter" or in_a_gap

    def make(self, folder: Path) -> Path:
        """The file in this folder. It lasts until 0.9 s or longer."""
        codec = CODECS[self.codec]
        fine = ("-enc_time_base", "1/1000") if self.timing == "jitter" else ()
        audio = ("-map", "1:a", "-map", "0:v", "-c:a", _AUDIO[self.container]) if self.start == "late" else ()
        offset = ("-output_ts_offset", "3.1") if self.start == "offset" else ()
        path = Clip(
            f"stream.{self.container}",
            ("-fps_mode", "vfr", *fine, *audio, "-c:v", *codec.arguments, *self._structure(), *offset),
            frames=self.frames,
            rate=self.rate,
            size=(176, 64),
            filters=f"{_COLOURS},format={codec.pixels},{self._clock()}",
            before=("-f", "lavfi", "-i", "sine=duration=2") if self.start == "late" else (),
        ).make(folder)
        if self.start != "cut":
            return path
        cut = folder / f"cut.{self.container}"
        ffmpeg("-ss", "0.3", "-i", str(path), "-c", "copy", str(cut))
        return cut

    def _structure(self) -> tuple[str, ...]:
        """The options for groups of pictures."""
        gop, bframes = str(self.gop), str(self.bframes)
        if CODECS[self.codec].intra:
            return ()
        match self.codec:
            case "h264":
                return ("-g", gop, "-bf", bframes, "-x264-params", f"open-gop={int(self.open_gop)}:threads=1")
            case "hevc":
                threads = "log-level=error:pools=none:frame-threads=1"
                keys = f"keyint={gop}:min-keyint={gop}:bframes={bframes}:open-gop={int(self.open_gop)}"
                return ("-x265-params", f"{threads}:{keys}")
            case "mpeg1" | "mpeg2" | "mpeg4":
                closed = () if self.open_gop else ("-flags", "+cgop", "-sc_threshold", "1000000000")
                return ("-g", gop, "-bf", bframes, *closed)
            case "vp8" | "vp9" if self.bframes:
                return ("-g", gop, "-deadline", "good", "-auto-alt-ref", "1", "-lag-in-frames", "12")
            case "vp8" | "vp9":
                return ("-g", gop, "-deadline", "realtime")
            case "av1":
                return ("-g", gop, *(("-lag-in-frames", "8") if self.bframes else ("-usage", "realtime")))
            case _:
                return ("-g", gop)

    def _clock(self) -> str:
        """The filter that times the pictures: steadily, with gaps, or with no two steps alike."""
        delay = f"+{_LATE}/TB" if self.start == "late" else ""
        match self.timing:
            case "constant":
                return f"setpts='PTS{delay}'"
            case "gaps":
                return f"setpts='(N+3*floor(N/7)+5*floor(N/16))/({self.rate})/TB{delay}'"
            case "jitter":
                return f"settb=1/1000,setpts='floor(1000*N/({self.rate})+11*sin(1.7*N)){delay}+11'"


@dataclass(frozen=True)
class Selection:
    """Options of an extraction."""

    fps: str
    start: str | None = None
    end: str | None = None


SELECTIONS: Final = (
    Selection("1"), Selection("2"), Selection("5"), Selection("1/2"), Selection("25"), Selection("30000/1001"),
    Selection("7/3"), Selection("3", start="0.4"), Selection("10", end="0.9"), Selection("1/5", start="0.61"),
    Selection("12.5", start="0.5", end="1.1"), Selection("50", start="0.2", end="0.7"), Selection("13", end="0.04"),
)  # fmt: skip


def grid() -> Iterator[Stream]:
    """Every combination of codec, B-frames, variable frame rate and late start that there is."""
    for number, name in enumerate(CODECS):
        codec = CODECS[name]
        timings: tuple[Timing, Timing] = ("constant", "jitter" if codec.fine and number % 2 else "gaps")
        starts: tuple[Start, Start] = ("zero", "late")
        for turn, (bframes, timing, start) in enumerate(itertools.product((0, 2), timings, starts)):
            if bframes and not codec.reorders:
                continue
            hidden = 2 if codec.hides and turn in (1, 2) else bframes
            container = codec.containers[turn % len(codec.containers)]
            yield Stream(name, container, timing, start, hidden, open_gop=bool(bframes and turn % 2), gop=9 + turn)


OTHERS: Final = (
    Stream("mpeg1", "mpg", "gaps", "late", bframes=2, open_gop=True),
    Stream("png", "mov", "jitter"),
    Stream("flv1", "flv", "jitter", "late"),
    Stream("wmv2", "wmv", "constant", "late"),
    Stream("msmpeg4", "avi", "gaps"),
    Stream("h264", "mp4", "constant", "cut", bframes=3, gop=25, rate="30000/1001"),
    Stream("h264", "mov", "jitter", "cut", bframes=3, open_gop=True, gop=30, rate="50", frames=60),
    Stream("hevc", "mp4", "constant", "cut", bframes=4, open_gop=True, gop=14),
    Stream("mpeg2", "ts", "constant", "offset", bframes=2, open_gop=True, rate="30000/1001"),
    Stream("vp9", "webm", "constant", "offset", rate="24"),
    Stream("mjpeg", "mkv", "jitter", "offset"),
    Stream("mpeg4", "mp4", "gaps", "cut", bframes=2, gop=30, frames=30),
    Stream("mpeg1", "mpg", "gaps", "late", gop=26, frames=28, rate="24"),
    Stream("hevc", "ts", "gaps", "cut", bframes=3, open_gop=True, gop=8, frames=36),
)
"""Rarer codecs, edit lists, clocks that do not start at zero, and ends that are not where the container says."""

UNTIMED: Final = (
    Stream("mpeg1", "mpg", "constant", "late", gop=1, frames=36, rate="24"),
    Stream("mpeg2", "mpg", "gaps", "late", gop=1, frames=60, rate="50"),
    Stream("mpeg2", "mpg", "gaps", "late", bframes=2, gop=7, frames=69, rate="50"),
    Stream("mpeg1", "mpg", "gaps", "zero", bframes=2, gop=1, frames=65),
)
"""Streams with times of no use: those of late ones, which FFmpeg makes up, have to be counted from the container's
start; some step back; and the last step says nothing of the last frame's length."""


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Any stream that can be written."""
    name = draw(st.sampled_from(sorted(CODECS)))
    codec = CODECS[name]
    bframes = draw(st.integers(0, 4)) if codec.reorders else draw(st.integers(0, int(codec.hides)))
    timings: tuple[Timing, ...] = ("constant", "gaps", "jitter") if codec.fine else ("constant", "gaps")
    container = draw(st.sampled_from(codec.containers))
    starts: list[Start] = ["zero", "late", "offset"]
    if container != "ogv":  # cut, that has no times
        starts.append("cut")
    rate = draw(st.sampled_from(("25", "24", "30000/1001", "30", "50")))
    return Stream(
        codec=name,
        container=container,
        timing=draw(st.sampled_from(timings)),
        start=draw(st.sampled_from(starts)),
        bframes=min(bframes, 2) if name.startswith("mpeg") else bframes,
        open_gop=bframes > 0 and draw(st.booleans()),
        gop=draw(st.integers(1, 40)),
        frames=draw(st.integers(int(1.2 * Fraction(rate)), 75)),
        rate=rate,
    )


def selections() -> st.SearchStrategy[list[Selection]]:
    """Five different selections."""
    rates = st.fractions(min_value="1/4", max_value=40, max_denominator=1001).map(str)
    times = st.none() | st.integers(1, 600).map(lambda ms: f"{ms}ms")
    lengths = st.none() | st.integers(1, 900)
    drawn = st.builds(_between, st.sampled_from(("1", "5", "25")) | rates, times, lengths)
    return st.lists(drawn, min_size=5, max_size=5, unique=True)


def _between(fps: str, start: str | None, length: int | None) -> Selection:
    begin = int((start or "0ms").removesuffix("ms"))
    return Selection(fps, start, None if length is None else f"{begin + length}ms")
