"""How pictures are made: the part of the extraction options that a decoder needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # pydantic takes longer to load than all else that a decoder needs
    from fiapx.core.options import Deinterlace, ExtractOptions, Hdr, ImageFormat


@dataclass(frozen=True)
class Style:
    """See ExtractOptions, whose names and defaults these are."""

    width: int | None = None
    height: int | None = None
    upscale: bool = False
    format: ImageFormat = "jpg"
    quality: int = 90
    deinterlace: Deinterlace = "off"
    hdr: Hdr = "tonemap"
    sheet: bool = False
    cleans: bool = False

    @classmethod
    def of(cls, options: ExtractOptions) -> Self:
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})
