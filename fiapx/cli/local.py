"""`fiapx extract`: from a video to a ZIP of frames on this machine, with no server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.inputs import VideoFile
from fiapx.cli.outputs import STDOUT, PartFile, PipeOutput, check_free, sinks_for
from fiapx.cli.selection import extraction
from fiapx.cli.signals import cancel_on_signals
from fiapx.cli.terminal import Terminal
from fiapx.cli.text import plural
from fiapx.core.errors import Cancelled, UsageError
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.media.model import Output, Result

    Work = Callable[[Path, Output, Event], Result]


@extraction
def extract(
    ctx: typer.Context,
    videos: flags.Videos,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    as_json: flags.AsJson = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Extract frames of videos into ZIPs on this machine.

    Without -o each ZIP is named after its video, in the working directory.

    Example: fiapx extract holiday.mp4 --fps 2 --width 640 -o frames.zip
    """
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    work = _engine(terminal, **chosen)
    videos = list(dict.fromkeys(videos))
    sinks = sinks_for({video: Path(video).stem for video in videos}, output, terminal)
    batch = Batch(terminal)
    with cancel_on_signals() as cancelled:
        for video, sink in sinks.items():
            run = Run(terminal, work, Path(video), sink, cancelled)
            batch.attempt(video, lambda result, run=run: run.into(result, overwrite=overwrite))  # type: ignore[misc]
    batch.finish()


def _engine(terminal: Terminal, **chosen: Any) -> Work:
    """The engine with everything decided but the video. Imported here, since it is slow to load."""
    from fiapx.cli.config import load_settings
    from fiapx.core.options import extract_options
    from fiapx.media.extract import extract as run
    from fiapx.media.model import Limits, Source

    wanted = extract_options(**chosen)
    settings = load_settings()
    limits = Limits(settings.max_frames, settings.max_pixels, settings.max_output_bytes, settings.job_timeout)

    def work(video: Path, output: Output, cancelled: Event) -> Result:
        with VideoFile(video) as file, terminal.progress(video.name) as advance:
            return run(
                Source(video.name, file),
                wanted,
                output,
                limits=limits,
                ffmpeg=settings.ffmpeg,
                on_progress=lambda progress: advance(progress.done, progress.total),
                cancelled=cancelled,
            )

    return work


@dataclass(frozen=True)
class Run:
    """One video on its way into one sink."""

    terminal: Terminal
    work: Work
    video: Path
    sink: Path | PipeOutput
    cancelled: Event

    def into(self, report: dict[str, Any], *, overwrite: bool) -> None:
        """Extract, and add what there is to tell to the report."""
        if self.cancelled.is_set():
            raise Cancelled
        began = time.monotonic()
        result = self._to_pipe(self.sink) if isinstance(self.sink, PipeOutput) else self._to_file(self.sink, overwrite)
        for warning in result.warnings:
            self.terminal.warn(visible(f"{self.video}: {warning.message} ({warning.code})"))
        report |= {
            "output": STDOUT if isinstance(self.sink, PipeOutput) else str(self.sink),
            "frames": result.frames,
            "bytes": result.size,
            "sha256": result.sha256,
            "engine": result.engine,
            "warnings": [warning.as_dict() for warning in result.warnings],
            "seconds": round(time.monotonic() - began, 3),
        }

    def _to_pipe(self, pipe: PipeOutput) -> Result:
        result = self.work(self.video, pipe, self.cancelled)
        pipe.commit()
        return result

    def _to_file(self, target: Path, overwrite: bool) -> Result:
        VideoFile(self.video).close()  # a wrong name is told before an output that exists
        check_free(target, overwrite=overwrite)
        if target.exists() and target.samefile(self.video):
            raise UsageError(f"the output {str(target)!r} is the video itself")
        with PartFile(target) as part:
            result = self.work(self.video, part, self.cancelled)
            part.commit()
        self.terminal.say(f"{visible(str(target))}: {plural(result.frames, 'frame')}, {size(result.size)}")
        return result
