"""From finished frames, in order, to the ZIP: judge, name, store, record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiapx.core.errors import NoFrames
from fiapx.core.options import ExtractOptions
from fiapx.media import manifest
from fiapx.media.archive import Archive, frame_name
from fiapx.media.cleaning import Cleaning
from fiapx.media.manifest import DroppedRecord, FrameRecord
from fiapx.media.model import EncodedFrame, MediaWarning, Result, VideoInfo, Wanted
from fiapx.media.sheet import Sheets


class Assembly:
    """A ZIP in the making."""

    def __init__(self, archive: Archive, info: VideoInfo, options: ExtractOptions) -> None:
        self._archive = archive
        self._info = info
        self._options = options
        self._cleaning = Cleaning(options)
        self._sheets = Sheets(archive) if options.sheet else None
        self._frames: list[FrameRecord] = []
        self._dropped: list[DroppedRecord] = []

    @property
    def seen(self) -> int:
        """How many frames were added, those that were left out included."""
        return len(self._frames) + len(self._dropped)

    def add(self, want: Wanted, frame: EncodedFrame) -> None:
        """Store a frame, or leave it out for what it shows."""
        times = {
            "time": round(float(want.time), 6),
            "shown_at": round(float(self._info.seconds(frame.pts)), 6),
        }
        if verdict := self._cleaning.verdict(frame.look):
            self._dropped.append(DroppedRecord(**times, pts=frame.pts, reason=verdict.reason, measure=verdict.measure))
            return
        index = len(self._frames) + 1
        entry = self._archive.add(frame_name(index, want.time, self._options.format), frame.data)
        self._frames.append(
            FrameRecord(
                index=index,
                file=entry.name,
                **times,
                pts=frame.pts,
                width=frame.width,
                height=frame.height,
                bytes=entry.size,
                offset=entry.offset,
                sha256=entry.sha256,
            )
        )
        if self._sheets:
            self._sheets.add(want.time, frame.width, frame.height, frame.tile)

    def close(
        self,
        end_pts: int,
        source: dict[str, Any],
        engine: str,
        versions: dict[str, str],
        warnings: Sequence[MediaWarning],
    ) -> Result:
        """Finish the ZIP with contact sheets and manifest. Raises NoFrames where it would be empty."""
        if not self._frames:
            dropped = f"All {len(self._dropped)} frames were left out for what they show." if self._dropped else None
            raise NoFrames(dropped)
        if self._sheets:
            self._sheets.close(self._info.seconds(end_pts))
        sheets = self._sheets.records if self._sheets else []
        document = manifest.as_json(
            source, self._options, engine, versions, warnings, self._frames, self._dropped, sheets
        )
        entry = self._archive.add("manifest.json", document)
        self._archive.add("manifest.csv", manifest.as_csv(self._frames))
        size, sha256 = self._archive.close()
        return Result(len(self._frames), size, sha256, entry.offset, entry.size, engine, tuple(warnings))
