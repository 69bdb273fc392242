"""The engine's nouns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Protocol


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
