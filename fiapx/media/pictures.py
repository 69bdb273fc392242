"""The wanted frames, by the engine that was asked for, and what there is to say of the source."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fiapx.core.errors import FFmpegMissing, UnsupportedFormat
from fiapx.core.options import ExtractOptions
from fiapx.media import diagnosis, plan
from fiapx.media.ffmpeg import find_ffmpeg
from fiapx.media.memory import is_large
from fiapx.media.model import EncodedFrame, Index, Limits, MediaWarning, Refused, Source, VideoInfo, Wanted
from fiapx.media.pool import Pool
from fiapx.media.process import Watch
from fiapx.media.reference import Reference
from fiapx.media.segments import Kind, Segment, segments
from fiapx.media.style import Style

Decode = Callable[[Iterable[Segment]], Generator[EncodedFrame | Refused]]
"""The frames of all segments in order of pts, without those that cannot be decoded; after each what it refused."""
Spread = Callable[[Decode, VideoInfo], Decode]
"""Given what decodes on this machine: what has segments made elsewhere as well (see `task`)."""


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
        spread: Spread | None = None,
    ) -> None:
        self._pool = pool
        self._source = source
        self._options = options
        self._limits = limits
        self._named_ffmpeg = ffmpeg
        self._watch = watch
        self._decode: Decode = spread(pool.frames, pool.info) if spread else pool.frames
        self._used: list[str] = []
        self._refused: Refused = frozenset()
        self._taken_over = 0
        """Frames that were left to FFmpeg's command line when one of them had not come out."""
        self._looked_at = self._unseen = 0
        """Frames among which scenes were looked for, and those of them that did not come out."""
        self.ffmpeg_version: str | None = None
        """That of FFmpeg's command line, where it was used."""
        self.index: Index = self._timed_index(pool.index)
        self.info: VideoInfo = pool.info if pool.index.reliable else _with_own_times(pool.info)
        """With the reference engine's own times, where the container's are of no use."""

    @property
    def engine(self) -> str:
        """Who decoded: ``fast``, ``ffmpeg``, or ``fast+ffmpeg``."""
        return "+".join(self._used)

    @property
    def fast(self) -> bool:
        """Whether the children decode, instead of FFmpeg's command line, which goes on once it has taken over."""
        return self._options.engine != "ffmpeg" and self._pool.index.reliable and "ffmpeg" not in self._used

    def matched(self, wanted: Sequence[Wanted]) -> Iterator[tuple[Wanted, EncodedFrame]]:
        """Each wanted entry with its frame; a frame may serve several. What cannot be decoded is left out."""
        frames = self._frames(list(dict.fromkeys(want.pts for want in wanted)), "image")
        frame = next(frames, None)
        for want in wanted:
            while frame is not None and frame.pts < want.pts:
                frame = next(frames, None)
            if frame is not None and frame.pts == want.pts:
                yield want, frame
        deque(frames, maxlen=0)  # a decoder tells what it has refused after its last frame

    def warnings(self, missing: int, total: int) -> list[MediaWarning]:
        """What the user should know of the source. Call it after the last frame."""
        found = diagnosis.of_source(self.info, self.index, len(self._refused | self._pool.refused))
        if self._taken_over:
            text = (
                f"{self._taken_over} frames were left to FFmpeg, since one did not come out: the source may be damaged."
            )
            found.append(MediaWarning("ffmpeg_helped", text, {"frames": self._taken_over}))
        for lost, of in ((self._unseen, self._looked_at), (missing, total)):
            if lost:
                text = f"{lost} of {of} frames could not be decoded and are left out."
                found.append(MediaWarning("frames_missing", text, {"missing": lost, "wanted": of}))
        return found

    def scenes(self, pts: Sequence[int], on_progress: Callable[[int], None]) -> list[int]:
        """Those of these frames (pts ascending, unique) that begin a scene; has to decode them all."""
        from fiapx.media.likeness import scene_starts

        self._looked_at = self._unseen = len(pts)

        def thumbnails() -> Iterator[tuple[int, bytes]]:
            for done, frame in enumerate(self._frames(pts, "thumbnail"), 1):
                yield frame.pts, frame.data
                self._unseen -= 1
                on_progress(done)
                self._watch.check()

        assert self._options.scenes is not None
        return list(scene_starts(thumbnails(), self._options.scenes))

    def _frames(self, pts: Sequence[int], kind: Kind) -> Iterator[EncodedFrame]:
        """The frames with these pts (ascending, unique), in order."""
        given = 0
        if self.fast:
            self._use("fast")
            with closing(self._decode(segments(plan.runs(self.index, pts), kind))) as frames:
                for part in frames:
                    if not isinstance(part, EncodedFrame):
                        self._refused |= part
                        continue
                    if part.pts != pts[given] and self._reference is not None:
                        break
                    given = pts.index(part.pts, given) + 1
                    yield part
        if given < len(pts) and self._reference is not None:
            self._taken_over = len(pts) - given if "fast" in self._used else 0
            self._use("ffmpeg")
            self._pool.retire()
            yield from self._reference.frames(self.info, Style.of(self._options), pts[given:], kind)

    def _use(self, engine: str) -> None:
        if engine not in self._used:
            self._used.append(engine)

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
        own_times, large = not self._pool.index.reliable, is_large(self._pool.info, self._pool.index)
        return Reference(binary, self._source.file, self._limits, self._watch, own_times=own_times, large=large)

    def _timed_index(self, demuxed: Index) -> Index:
        if demuxed.reliable:
            return demuxed
        if self._reference is None:
            raise UnsupportedFormat(
                "The video stores no usable timestamps, which the fast engine needs.", hint="Use --engine auto."
            )
        self._pool.retire()
        return self._reference.index(demuxed)


def _with_own_times(info: VideoInfo) -> VideoInfo:
    return replace(info, start_pts=info.own_start)
