"""The one entry point of the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

from fiapx.core.options import ExtractOptions
from fiapx.media.model import Limits, Output, Progress, Result, Source


def extract(
    source: Source,
    options: ExtractOptions,
    output: Output,
    *,
    limits: Limits = Limits(),
    ffmpeg: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Event | None = None,
) -> Result:
    """Extract frames into a ZIP that is written to `output` strictly in order.

    Once `cancelled` is set the decoder is killed within a second and Cancelled is raised. Every other failure is a
    MediaError (the video's fault), NoSpace, or FFmpegMissing. `output` then holds garbage; the caller discards it.
    """
    raise NotImplementedError
