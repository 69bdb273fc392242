"""``manifest.json`` and ``manifest.csv``: what every frame is, where it lies in the ZIP, and how all of it was made."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final

import fiapx
from fiapx.core.options import ExtractOptions
from fiapx.media.model import MediaWarning, VideoInfo
from fiapx.media.sheet import SheetRecord

FORMAT: Final = 1
"""Raised when a field changes its meaning or goes."""


@dataclass(frozen=True)
class FrameRecord:
    """A row of the manifest. `time` is the wanted time and `shown_at` the frame's own, in seconds from the container's
    start; `pts` counts ticks of the source's time base; `offset` and `bytes` are the image's range in the ZIP."""

    index: int
    file: str
    time: float
    shown_at: float
    pts: int
    width: int
    height: int
    bytes: int
    offset: int
    sha256: str


@dataclass(frozen=True)
class DroppedRecord:
    """A frame that was left out: `reason` is ``black``, ``blurred`` or ``similar``, and `measure` what says so."""

    time: float
    shown_at: float
    pts: int
    reason: str
    measure: float


def source_record(name: str, size: int, sha256: str, info: VideoInfo, duration: float) -> dict[str, Any]:
    """The source's part. `duration` is that of the video stream, in seconds."""
    return {
        "name": name.encode(errors="backslashreplace").decode(),  # a file name need not be text
        "bytes": size,
        "sha256": sha256,
        "duration": round(duration, 6),
        "format": info.format,
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "width": info.width,
        "height": info.height,
        "sample_aspect_ratio": str(info.sample_aspect),
        "rotation": info.rotation,
        "primaries": info.primaries,
        "transfer": info.transfer,
        "hdr": info.hdr,
        "time_base": str(info.time_base),
        "start_pts": info.start_pts,
    }


def versions(ffmpeg_version: str | None) -> dict[str, str]:
    """Everything whose version can change a byte; `ffmpeg_version` where the command line decoded."""
    libraries = {name: version(name) for name in ("av", "numpy", "simplejpeg", "isal")}
    found = {"fiapx": fiapx.__version__, "python": platform.python_version(), **libraries}
    return found | ({"ffmpeg": ffmpeg_version} if ffmpeg_version else {})


def as_json(
    source: dict[str, Any],
    options: ExtractOptions,
    engine: str,
    found_versions: dict[str, str],
    warnings: Sequence[MediaWarning],
    frames: Sequence[FrameRecord],
    dropped: Sequence[DroppedRecord],
    sheets: Sequence[SheetRecord],
) -> bytes:
    """The JSON document, one frame a line."""
    head = {
        "manifest": FORMAT,
        "source": source,
        "options": options.model_dump(mode="json", exclude_none=True),
        "engine": engine,
        "versions": found_versions,
        "warnings": [warning.as_dict() for warning in warnings],
    }
    lists: dict[str, Sequence[FrameRecord | DroppedRecord | SheetRecord]] = {
        "dropped": dropped,
        "sheets": sheets,
        "frames": frames,
    }
    parts = (f' "{name}": {_rows(records)}' for name, records in lists.items())
    return "".join((json.dumps(head, indent=1)[:-2], ",\n", ",\n".join(parts), "\n}\n")).encode()


def _rows(records: Sequence[FrameRecord | DroppedRecord | SheetRecord]) -> str:
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    return f"[\n{lines}\n]" if lines else "[]"


def as_csv(frames: Sequence[FrameRecord]) -> bytes:
    """The frames alone, with a header row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(FrameRecord.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(frame) for frame in frames)
    return text.getvalue().encode()
