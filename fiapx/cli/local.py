"""`fiapx extract`: from a video to a ZIP of frames on this machine, with no server."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.engine import Engine
from fiapx.cli.inputs import Inputs, check_readable, expand, opened, source_name
from fiapx.cli.outputs import STDOUT, Existing, PartFile, PipeOutput, check_other, destinations, sinks_for
from fiapx.cli.selection import extraction
from fiapx.cli.signals import cancel_on_signals
from fiapx.cli.terminal import Terminal
from fiapx.cli.text import plural
from fiapx.core.errors import Cancelled, UsageError
from fiapx.core.text import size, visible
from fiapx.media.spare import Spare, any_spare

if TYPE_CHECKING:
    from fiapx.media.model import Output, Result


@extraction
def extract(
    ctx: typer.Context,
    videos: flags.Sources,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    skip_existing: flags.SkipExisting = False,
    jobs: flags.Processes = None,
    estimate: flags.Estimate = False,
    as_json: flags.AsJson = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Extract frames of videos into ZIPs on this machine.

    Without -o each ZIP is named after its video, in the working directory.
    Videos of a folder and its sub-folders go into the same sub-folders there.

    Example: fiapx extract holiday.mp4 --fps 2 --width 640 -o frames.zip
    """
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other")
    existing, batch = Existing(overwrite, skip_existing), Batch(terminal)
    with cancel_on_signals() as cancelled:
        if estimate:
            engine = Engine.of(terminal, chosen, jobs, cancelled)
            _estimate(engine, expand(videos), output, existing, batch)
        else:
            with any_spare() as spare:  # gets ready while the options are read
                engine = Engine.of(terminal, chosen, jobs, cancelled)
                inputs = expand(videos)
                sinks = sinks_for(inputs.stems, output, terminal, several=inputs.several)
                for video, sink in sinks.items():
                    batch.attempt(video, Run(engine, spare, video, sink, existing).into)
    batch.finish()


def _estimate(engine: Engine, inputs: Inputs, output: str | None, existing: Existing, batch: Batch) -> None:
    from fiapx.cli.estimating import Estimates

    targets = {} if output == STDOUT else destinations(inputs.stems, output, several=inputs.several)
    estimates = Estimates(engine, existing)
    for video in inputs.stems:
        batch.attempt(video, partial(estimates.of, video, targets.get(video)))


@dataclass(frozen=True)
class Run:
    """One video on its way into one sink."""

    engine: Engine
    spare: Spare
    video: str
    sink: Path | PipeOutput
    existing: Existing

    def into(self, report: dict[str, Any]) -> None:
        """Extract, and add what there is to tell to the report."""
        if self.engine.cancelled.is_set():
            raise Cancelled
        report["output"] = STDOUT if isinstance(self.sink, PipeOutput) else str(self.sink)
        check_readable(self.video, self.engine.terminal)  # a wrong name is told before an output that exists
        if self.existing.skips(self.sink):
            report["skipped"] = True
            self.engine.terminal.say(visible(f"{self.sink}: skipped, since it exists"))
            return
        began = time.monotonic()
        result = self._to_pipe(self.sink) if isinstance(self.sink, PipeOutput) else self._to_file(self.sink)
        for warning in result.warnings:
            self.engine.terminal.warn(visible(f"{self.video}: {warning.message} ({warning.code})"))
        report |= {
            "frames": result.frames,
            "bytes": result.size,
            "sha256": result.sha256,
            "engine": result.engine,
            "warnings": [warning.as_dict() for warning in result.warnings],
            "seconds": round(time.monotonic() - began, 3),
        }

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        return opened(self.video, self.engine.terminal, self.engine.cancelled)

    def _extract(self, file: BinaryIO, output: Output) -> Result:
        return self.engine.extract(source_name(self.video), file, output, self.spare)

    def _to_pipe(self, pipe: PipeOutput) -> Result:
        with self._opened() as file:
            result = self._extract(file, pipe)
        pipe.commit()
        return result

    def _to_file(self, target: Path) -> Result:
        with self._opened() as file:
            check_other(target, file)
            with PartFile(target) as part:
                result = self._extract(file, part)
                part.commit()
        self.engine.terminal.say(f"{visible(str(target))}: {plural(result.frames, 'frame')}, {size(result.size)}")
        return result
