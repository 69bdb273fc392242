"""The engine as the command line uses it: with everything decided but the video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO

from fiapx.cli.terminal import Terminal

if TYPE_CHECKING:
    from fiapx.core.options import ExtractOptions
    from fiapx.media.estimate import Estimate
    from fiapx.media.model import Limits, Output, Result
    from fiapx.media.spare import Spare


@dataclass(frozen=True)
class Engine:
    """Its modules are imported where they are used, since they are slow to load."""

    terminal: Terminal
    options: ExtractOptions
    limits: Limits
    ffmpeg: Path | None
    jobs: int | None
    cancelled: Event

    @classmethod
    def of(cls, terminal: Terminal, chosen: dict[str, Any], jobs: int | None, cancelled: Event) -> Engine:
        """By the flags that were chosen, and the settings. Raises InvalidOptions or UsageError."""
        from fiapx.cli.config import engine_settings
        from fiapx.core.options import extract_options

        options = extract_options(**chosen)
        limits, ffmpeg = engine_settings()
        return cls(terminal, options, limits, ffmpeg, jobs, cancelled)

    def extract(self, name: str, file: BinaryIO, output: Output, spare: Spare) -> Result:
        """Extract into `output`, with a bar."""
        from fiapx.media.extract import extract
        from fiapx.media.model import Source

        with self.terminal.progress(name) as advance:
            return extract(
                Source(name, file),
                self.options,
                output,
                limits=self.limits,
                ffmpeg=self.ffmpeg,
                on_progress=lambda progress: advance(progress.done, progress.total),
                cancelled=self.cancelled,
                jobs=self.jobs,
                spare=spare,
            )

    def estimate(self, name: str, file: BinaryIO) -> Estimate:
        """What `extract` would give and cost."""
        from fiapx.media.estimate import estimate
        from fiapx.media.model import Source

        return estimate(
            Source(name, file),
            self.options,
            limits=self.limits,
            ffmpeg=self.ffmpeg,
            cancelled=self.cancelled,
            jobs=self.jobs,
        )
