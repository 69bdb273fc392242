"""The engine's nouns."""

from __future__ import annotations

import re
from array import array
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO, Final, Protocol

from fiapx.media.colours import HDR, UNKNOWN

MAX_NUMBER: Final = 2**100
"""More than any ticks, frames or seconds that a file may claim, and little enough for a float."""
_RATIO: Final = re.compile(r"-?[0-9]{1,20}(?:/[0-9]{1,20})?")


def ratio(text: object) -> Fraction:
    """A fraction as `str` writes it. Raises ValueError for anything else that Fraction takes: of ``1e999999999`` it
    makes a number on which the process works until it has no memory left."""
    if not isinstance(text, str) or not _RATIO.fullmatch(text):
        raise ValueError("a ratio makes no sense")
    return Fraction(text)


@dataclass(frozen=True)
class Source:
    """A video to read. `file` has a real descriptor; `name` is for the manifest alone, and never trusted."""

    name: str
    file: BinaryIO
    sha256: str | None = None
    """Hex digest where it is known already; computed while decoding otherwise."""


@dataclass(frozen=True)
class Limits:
    """What one extraction may cost at most."""

    max_frames: int = 86_400
    max_pixels: int = 8192 * 8192
    max_output_bytes: int = 20 * 1024**3
    timeout: float = 4 * 3600
    """Wall-clock seconds."""


@dataclass(frozen=True)
class Progress:
    """`done` of `total` frames are in the ZIP; `total` is 0 while the video is being indexed."""

    done: int
    total: int


@dataclass(frozen=True)
class MediaWarning:
    """Something the user should know about a result that is usable all the same. `code` is stable."""

    code: str
    message: str
    counts: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """A finished ZIP: its size and hex SHA-256, and where its ``manifest.json`` lies in it (a byte range)."""

    frames: int
    size: int
    sha256: str
    manifest_offset: int
    manifest_size: int
    engine: str
    warnings: tuple[MediaWarning, ...] = ()


class Output(Protocol):
    """Anything that takes bytes in order: a file, a pipe, an object writer."""

    def write(self, data: bytes | memoryview, /) -> int: ...


@dataclass(frozen=True)
class VideoInfo:
    """What the container and the first decoded frame say of the video stream. Sizes are in pixels, as coded."""

    format: str
    codec: str
    width: int
    height: int
    pixel_format: str
    sample_aspect: Fraction
    matrix: str
    """Value of the scale filter's ``in_color_matrix``."""
    full_range: bool
    orientation: tuple[str, ...]
    """Filters that turn the picture upright."""
    rotation: int
    """Degrees clockwise that `orientation` turns it."""
    time_base: Fraction
    """Seconds a tick of pts."""
    start_pts: int
    """The container's start time in ticks: where time counts from."""
    declared_duration: float | None
    """Seconds the container promises, of all its streams."""
    declared_frames: int
    """Frames the container promises; 0 where it does not say."""
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    """Names of `colours`."""
    peak: float = 0
    """The brightest light in cd/m², where an HDR video says so, else 0."""
    own_start: int = 0
    """The container's start time in ticks, as FFmpeg's own times have it: they may count from the video's start."""

    @property
    def hdr(self) -> str | None:
        """``PQ`` or ``HLG``; None for everything else."""
        return HDR.get(self.transfer)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return values | {"sample_aspect": str(self.sample_aspect), "time_base": str(self.time_base)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> VideoInfo:
        exact = {key: ratio(values[key]) for key in ("sample_aspect", "time_base")}
        return cls(**(values | exact | {"orientation": tuple(values["orientation"])}))

    def seconds(self, pts: int) -> Fraction:
        """Time of a pts, counted from the container's start."""
        return (pts - self.start_pts) * self.time_base


NOT_SHOWN: Final = -(2**63)
"""Stands for the pts of a packet that is decoded but never shown (before the start of an edit list)."""


@dataclass(frozen=True)
class Index:
    """Every packet of the video stream, in decoding order, found by demuxing alone."""

    pts: array[int]
    """Ticks of the stream's time base, or NOT_SHOWN."""
    keyframes: bytes
    """One byte a packet: 1 where decoding may start."""
    end_pts: int
    """Last frame's pts plus its duration: where the video ends."""
    reliable: bool
    """False where the container stores no presentation times (H.264 with B-frames in AVI, for one)."""
    packets: int
    """Packets read, those of no size included (AVI has them for dropped frames)."""
    streams_end: float
    """Seconds from the container's start until the last packet of any stream ends."""
    damaged: int = 0
    """Packets that the demuxer flagged as corrupt, plus 1 where reading stopped at an error."""

    def shown(self) -> list[int]:
        """The pts of all frames that are shown, ascending."""
        return sorted(set(self.pts) - {NOT_SHOWN})


Refused = frozenset[int]
"""Ordinals of packets that a decoder did not take."""


@dataclass(frozen=True)
class Wanted:
    """One entry of the result: the frame with this pts is the one shown at `time` (exact seconds)."""

    time: Fraction
    pts: int


@dataclass(frozen=True)
class Run:
    """One start of the decoder: feed packets `first` (a keyframe) to `last`, ordinals in the index, drain it, and keep
    the frames whose pts are wanted."""

    first: int
    last: int
    wanted: tuple[int, ...]


THUMBNAIL: Final = (64, 36)
"""Width and height of the grey pictures by which frames are compared."""
TILE: Final = 160
"""Longest side of a picture on a contact sheet, in pixels."""


def tile_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of an image on a contact sheet; it is not made larger."""
    scale = max(width / TILE, height / TILE, 1)
    return max(round(width / scale), 1), max(round(height / scale), 1)


@dataclass(frozen=True)
class Look:
    """What a frame shows, as numbers."""

    dark: float
    """Share of its pixels that are black."""
    sharpness: float
    """See `draw`."""
    thumbnail: bytes
    """Brightness, of size THUMBNAIL, in rows."""


@dataclass(frozen=True)
class EncodedFrame:
    """One image file (of a thumbnail: its bytes), and what is to be known of it."""

    pts: int
    width: int
    height: int
    data: bytes
    look: Look | None = None
    """Where frames may be dropped for what they show."""
    tile: bytes = b""
    """Packed RGB of `tile_size`, where contact sheets are made."""
