"""The one entry point of the engine: index, choose, decode in segments, assemble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from fiapx.core.options import ExtractOptions
from fiapx.media import manifest
from fiapx.media.archive import Archive
from fiapx.media.assemble import Assembly
from fiapx.media.choose import choose
from fiapx.media.digest import SourceDigest
from fiapx.media.model import Limits, Output, Progress, Result, Source
from fiapx.media.pictures import Pictures, Spread
from fiapx.media.pool import decoding
from fiapx.media.process import Watch
from fiapx.media.spare import Spare


def extract(
    source: Source,
    options: ExtractOptions,
    output: Output,
    *,
    limits: Limits = Limits(),
    ffmpeg: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    cancelled: threading.Event | None = None,
    jobs: int | None = None,
    spread: Spread | None = None,
    spare: Spare | None = None,
) -> Result:
    """Extract frames into a ZIP that is written to `output` strictly in order.

    Once `cancelled` is set the decoder is killed within a second and Cancelled is raised. Every other failure is a
    MediaError (the video's fault), NoSpace, or FFmpegMissing. `output` then holds garbage; the caller discards it.
    At most `jobs` processes decode (default: one for each core that this process may use); `spare` is the first.
    `spread` may have segments made elsewhere.
    """
    watch = Watch(limits.timeout, cancelled)
    on_progress(Progress(0, 0))
    with (
        decoding(source, options, limits, watch, jobs, spare) as pool,
        SourceDigest(source) as digest,
        Archive(output, limits.max_output_bytes) as archive,
    ):
        pictures = Pictures(pool, source, options, limits, ffmpeg, watch, spread)
        info, index = pictures.info, pictures.index

        def scenes(pts: Sequence[int]) -> list[int]:
            return pictures.scenes(pts, lambda done: on_progress(Progress(done, len(pts))))

        choice = choose(info, index, options, limits.max_frames, scenes)
        total = len(choice.wanted)
        assembly = Assembly(archive, info, options)
        for want, frame in pictures.matched(choice.wanted):
            assembly.add(want, frame)
            on_progress(Progress(assembly.seen, total))
            watch.check()
        warnings = [*choice.warnings, *pictures.warnings(total - assembly.seen, total)]
        duration = float(info.seconds(index.end_pts))
        described = manifest.source_record(source.name, digest.size, digest.hex(watch), info, duration)
        versions = manifest.versions(pictures.ffmpeg_version)
        return assembly.close(index.end_pts, described, pictures.engine, versions, warnings)
