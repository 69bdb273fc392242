"""`fiapx extract`: from a video to a ZIP of frames on this machine, with no server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.inputs import check_readable, expand, opened, source_name
from fiapx.cli.outputs import STDOUT, PartFile, PipeOutput, check_free, sinks_for
from fiapx.cli.selection import extraction
from fiapx.cli.signals import cancel_on_signals
from fiapx.cli.terminal import Terminal
from fiapx.cli.text import plural
from fiapx.core.errors import Cancelled, UsageError
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.media.model import Output, Result

    Work = Callable[[str, BinaryIO, Output, Event], Result]


@extraction
def extract(
    ctx: typer.Context,
    videos: flags.Sources,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    skip_existing: flags.SkipExisting = False,
    as_json: flags.AsJson = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Extract frames of videos into ZIPs on this machine.

    Without -o each ZIP is named after its video, in the working directory. The videos of a folder and of its
    sub-folders go into the same sub-folders there.

    Example: fiapx extract holiday.mp4 --fps 2 --width 640 -o frames.zip
    """
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other")
    work = _engine(terminal, **chosen)
    inputs = expand(videos)
    sinks = sinks_for(inputs.stems, output, terminal, several=inputs.several)
    batch = Batch(terminal)
    with cancel_on_signals() as cancelled:
        for video, sink in sinks.items():
            run = Run(terminal, work, video, sink, cancelled, overwrite=overwrite, skip_existing=skip_existing)
            batch.attempt(video, run.into)
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

    def work(name: str, file: BinaryIO, output: Output, cancelled: Event) -> Result:
        with terminal.progress(name) as advance:
            return run(
                Source(name, file),
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
    video: str
    sink: Path | PipeOutput
    cancelled: Event
    overwrite: bool
    skip_existing: bool

    def into(self, report: dict[str, Any]) -> None:
        """Extract, and add what there is to tell to the report."""
        if self.cancelled.is_set():
            raise Cancelled
        report["output"] = STDOUT if isinstance(self.sink, PipeOutput) else str(self.sink)
        if self._is_there():
            report["skipped"] = True
            self.terminal.say(visible(f"{self.sink}: skipped, since it exists"))
            return
        began = time.monotonic()
        result = self._to_pipe(self.sink) if isinstance(self.sink, PipeOutput) else self._to_file(self.sink)
        for warning in result.warnings:
            self.terminal.warn(visible(f"{self.video}: {warning.message} ({warning.code})"))
        report |= {
            "frames": result.frames,
            "bytes": result.size,
            "sha256": result.sha256,
            "engine": result.engine,
            "warnings": [warning.as_dict() for warning in result.warnings],
            "seconds": round(time.monotonic() - began, 3),
        }

    def _is_there(self) -> bool:
        """Whether the output is left as it is. A wrong name is told before an output that exists."""
        check_readable(self.video, self.terminal)
        if self.skip_existing and isinstance(self.sink, Path) and self.sink.is_file():
            return True
        check_free(self.sink, overwrite=self.overwrite)
        return False

    def _to_pipe(self, pipe: PipeOutput) -> Result:
        with opened(self.video, self.terminal, self.cancelled) as file:
            result = self.work(source_name(self.video), file, pipe, self.cancelled)
        pipe.commit()
        return result

    def _to_file(self, target: Path) -> Result:
        with opened(self.video, self.terminal, self.cancelled) as file:
            if target.exists() and os.path.samestat(os.fstat(file.fileno()), target.stat()):
                raise UsageError(f"the output {str(target)!r} is the video itself")
            with PartFile(target) as part:
                result = self.work(source_name(self.video), file, part, self.cancelled)
                part.commit()
        self.terminal.say(f"{visible(str(target))}: {plural(result.frames, 'frame')}, {size(result.size)}")
        return result
