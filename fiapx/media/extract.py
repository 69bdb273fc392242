"""The one entry point of the engine: index, plan, decode, pack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fiapx.core.cores import granted_cores
from fiapx.core.errors import NoFrames
from fiapx.core.options import ExtractOptions
from fiapx.media import manifest, plan
from fiapx.media.archive import Archive, frame_name
from fiapx.media.decoder import Decoder
from fiapx.media.digest import SourceDigest
from fiapx.media.manifest import FrameRecord
from fiapx.media.model import EncodedFrame, Index, Limits, Output, Progress, Result, Source, VideoInfo, Wanted
from fiapx.media.pictures import Pictures
from fiapx.media.pool import Pool
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
    spare: Spare | None = None,
) -> Result:
    """Extract frames into a ZIP that is written to `output` strictly in order.

    Once `cancelled` is set the decoder is killed within a second and Cancelled is raised. Every other failure is a
    MediaError (the video's fault), NoSpace, or FFmpegMissing. `output` then holds garbage; the caller discards it.
    At most `jobs` processes decode (default: one for each core that this process may use); `spare` is the first.
    """
    watch = Watch(limits.timeout, cancelled)
    on_progress(Progress(0, 0))

    def start(known: tuple[VideoInfo, Index] | None) -> Decoder:
        return Decoder(children, source.file, options, limits, watch, known)

    with (
        spare or Spare() as children,
        Pool(start, jobs or granted_cores()) as pool,
        SourceDigest(source) as digest,
        Archive(output, limits.max_output_bytes) as archive,
    ):
        pictures = Pictures(pool, source, options, limits, ffmpeg, watch)
        wanted = plan.choose(pictures.info, pictures.index, options, limits.max_frames)
        records: list[FrameRecord] = []
        for want, frame in pictures.matched(wanted):
            records.append(_store(archive, pictures.info, want, frame, len(records) + 1, options))
            on_progress(Progress(len(records), len(wanted)))
            watch.check()
        if not records:
            raise NoFrames
        warnings = pictures.warnings(len(wanted) - len(records), len(wanted))
        duration = float(pictures.info.seconds(pictures.index.end_pts))
        described = manifest.source_record(source.name, digest.size, digest.hex(watch), pictures.info, duration)
        versions = manifest.versions(pictures.ffmpeg_version)
        document = manifest.as_json(described, options, pictures.engine, versions, warnings, records)
        entry = archive.add("manifest.json", document)
        archive.add("manifest.csv", manifest.as_csv(records))
        size, sha256 = archive.close()
    return Result(len(records), size, sha256, entry.offset, entry.size, pictures.engine, tuple(warnings))


def _store(
    archive: Archive, info: VideoInfo, want: Wanted, frame: EncodedFrame, index: int, options: ExtractOptions
) -> FrameRecord:
    entry = archive.add(frame_name(index, want.time, options.format), frame.data)
    return FrameRecord(
        index=index,
        file=entry.name,
        time=round(float(want.time), 6),
        shown_at=round(float(info.seconds(frame.pts)), 6),
        pts=frame.pts,
        width=frame.width,
        height=frame.height,
        bytes=entry.size,
        offset=entry.offset,
        sha256=entry.sha256,
    )
