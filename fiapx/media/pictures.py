"""The wanted frames, by the engine that was asked for, and what there is to say of the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from fiapx.core.errors import FFmpegMissing, UnsupportedFormat
from fiapx.core.options import ExtractOptions
from fiapx.media import plan
from fiapx.media.ffmpeg import find_ffmpeg
from fiapx.media.model import EncodedFrame, Index, Limits, MediaWarning, Source, VideoInfo, Wanted
from fiapx.media.pool import Pool
from fiapx.media.process import Watch
from fiapx.media.reference import Reference
from fiapx.media.segments import segments

_TOLERANCE: Final = 0.25
"""Seconds, and the share below, by which a whole video may end before its declared duration."""
_TOLERANCE_SHARE: Final = 0.01


class Pictures:
    """``fast`` decodes in the child alone, ``ffmpeg`` with FFmpeg's command line alone. ``auto`` is fast until the
    first frame that does not come out, and takes that one and all that follow from the reference engine."""

    def __init__(
        self,
        pool: Pool,
        source: Source,
        options: ExtractOptions,
        limits: Limits,
        ffmpeg: Path | None,
        watch: Watch,
    ) -> None:
        self._pool = pool
        self._source = source
        self._options = options
        self._limits = limits
        self._named_ffmpeg = ffmpeg
        self._watch = watch
        self._used: list[str] = []
        self.ffmpeg_version: str | None = None
        """That of FFmpeg's command line, where it was used."""
        self.index: Index = self._timed_index(pool.index)
        self.info: VideoInfo = pool.info if pool.index.reliable else replace(pool.info, start_pts=0)
        """The reference engine's own times, where the container's are of no use, count from 0."""

    @property
    def engine(self) -> str:
        """Who decoded: ``fast``, ``ffmpeg``, or ``fast+ffmpeg``."""
        return "+".join(self._used)

    def matched(self, wanted: Sequence[Wanted]) -> Iterator[tuple[Wanted, EncodedFrame]]:
        """Each wanted entry with its frame; a frame may serve several. What cannot be decoded is left out."""
        frames = self._frames(list(dict.fromkeys(want.pts for want in wanted)))
        frame = next(frames, None)
        for want in wanted:
            while frame is not None and frame.pts < want.pts:
                frame = next(frames, None)
            if frame is not None and frame.pts == want.pts:
                yield want, frame

    def warnings(self, missing: int, total: int) -> list[MediaWarning]:
        """What the user should know of the source. Call it after the last frame."""
        found = []
        if counts := self._cut_off():
            text = "The source is cut off: what is there ends before the duration that it declares."
            found.append(MediaWarning("source_truncated", text, counts))
        if damaged := self.index.damaged + self._pool.refused:
            text = f"The source is damaged: {damaged} packets could not be read as they should."
            found.append(MediaWarning("source_damaged", text, {"packets": damaged}))
        if missing:
            text = f"{missing} of {total} frames could not be decoded and are left out."
            found.append(MediaWarning("frames_missing", text, {"missing": missing, "wanted": total}))
        return found

    def _cut_off(self) -> dict[str, int] | None:
        """How much the container promises and how much there is, where that is less."""
        info, index = self.info, self.index
        declared, frames = info.declared_duration or 0.0, info.declared_frames
        short = declared - index.streams_end > _TOLERANCE + _TOLERANCE_SHARE * declared
        fewer = frames - index.packets > 1 + _TOLERANCE_SHARE * frames
        if not short and not fewer:
            return None
        counts = {"declared_ms": round(declared * 1000), "read_ms": round(index.streams_end * 1000)}
        return counts | ({"declared_frames": frames, "read_frames": index.packets} if frames else {})

    def _frames(self, pts: Sequence[int]) -> Iterator[EncodedFrame]:
        """The frames with these pts (ascending, unique), in order."""
        given = 0
        if self._options.engine != "ffmpeg" and self._pool.index.reliable:
            self._used.append("fast")
            for frame in self._pool.frames(segments(plan.runs(self.index, pts))):
                if frame.pts != pts[given] and self._reference is not None:
                    break
                given = pts.index(frame.pts, given) + 1
                yield frame
        if given < len(pts) and self._reference is not None:
            self._used.append("ffmpeg")
            yield from self._reference.frames(self.info, self._options, pts[given:])

    @cached_property
    def _reference(self) -> Reference | None:
        """The reference engine, unless ``fast`` rules it out or ``auto`` can do without. Raises FFmpegMissing."""
        if self._options.engine == "fast":
            return None
        try:
            binary = find_ffmpeg(self._named_ffmpeg)
        except FFmpegMissing:
            if self._options.engine == "auto" and self._pool.index.reliable:
                return None
            raise
        self.ffmpeg_version = binary.version
        own_times = not self._pool.index.reliable
        return Reference(binary, self._source.file, self._limits, self._watch, own_times=own_times)

    def _timed_index(self, demuxed: Index) -> Index:
        if demuxed.reliable:
            return demuxed
        if self._reference is None:
            raise UnsupportedFormat(
                "The video stores no usable timestamps, which the fast engine needs.", hint="Use --engine auto."
            )
        return self._reference.index(demuxed)
