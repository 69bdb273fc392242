"""What a container says of itself and of its streams. It comes from a child that is not trusted, and is checked."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from fiapx.media.formats import MAX_STREAMS
from fiapx.media.model import ratio

Name = Annotated[str, Field(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class Stream:
    """One stream. None: the container does not say, or there is no such thing in a stream of this kind."""

    index: Count
    kind: Literal["video", "audio", "subtitle", "data", "attachment"]
    codec: Name
    """FFmpeg's name of it, or of the decoder."""
    profile: Name | None = None
    language: Name | None = None
    """As tagged; ISO 639-2 in most containers."""
    default: bool = False
    forced: bool = False
    cover: bool = False
    """A picture that stands for the file, and no video."""
    bit_rate: Count | None = None
    """Bits a second."""
    width: Count | None = None
    height: Count | None = None
    """In pixels, as coded."""
    pixel_format: Name | None = None
    bit_depth: Count | None = None
    """Bits a component."""
    primaries: Name | None = None
    transfer: Name | None = None
    """FFmpeg's names of what ITU-T H.273 numbers."""
    interlaced: bool | None = None
    rate: Annotated[Fraction, BeforeValidator(ratio), Field(gt=0)] | None = None
    """Frames a second, on average; often a guess."""
    sample_rate: Count | None = None
    channels: Name | None = None
    """The layout: ``stereo``, ``5.1``."""


@dataclass(frozen=True)
class Contents:
    """A container."""

    format: Name
    """FFmpeg's short names."""
    description: Name
    """FFmpeg's long name."""
    duration: Number | None
    """Seconds that it declares."""
    streams: Annotated[tuple[Stream, ...], Field(max_length=MAX_STREAMS)]

    @property
    def videos(self) -> tuple[Stream, ...]:
        """The video streams that are no cover art. Frames are taken from the first."""
        return tuple(stream for stream in self.streams if stream.kind == "video" and not stream.cover)

    def to_json(self) -> dict[str, Any]:
        return dict(_ADAPTER.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, values: Any) -> Contents:
        """Raises ValueError for what makes no sense."""
        return _ADAPTER.validate_python(values)


_ADAPTER = TypeAdapter(Contents)
