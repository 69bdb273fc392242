"""`fiapx extract --estimate`: what an extraction would give and cost, and whether the disk holds it."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiapx.cli.engine import Engine
from fiapx.cli.inputs import check_readable, opened, source_name
from fiapx.cli.outputs import STDOUT, Existing, check_other
from fiapx.cli.text import duration, plural
from fiapx.core.errors import Cancelled, NoSpace
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.media.estimate import Estimate


class Estimates:
    """The videos of one command. What those before need of a disk is not free for those after them."""

    def __init__(self, engine: Engine, existing: Existing) -> None:
        self._engine = engine
        self._existing = existing
        self._promised: dict[int, int] = defaultdict(int)
        """Device → bytes."""

    def of(self, video: str, target: Path | None, report: dict[str, Any]) -> None:
        """Estimate one video, and add what there is to tell to the report. `target` is None for standard output.

        Raises what the extraction would: of outputs that are there, and NoSpace where the disk has no room for the ZIP.
        """
        if self._engine.cancelled.is_set():
            raise Cancelled
        report["output"] = STDOUT if target is None else str(target)
        check_readable(video, self._engine.terminal)  # a wrong name is told before an output that exists
        if target is not None and self._existing.skips(target):
            report["skipped"] = True
            self._engine.terminal.say(visible(f"{target}: skipped, since it exists"))
            return
        found = self._estimate(video, target)
        report |= {
            "frames": found.frames,
            "at_most": found.at_most,
            "bytes": found.size,
            "seconds": round(found.seconds, 1),
            "sampled": found.sampled,
        }
        most = "at most " if found.at_most else ""
        text = f"{most}{plural(found.frames, 'frame')}, {most or 'about '}{size(found.size)}, {_lasting(found.seconds)}"
        if target is None:
            self._engine.terminal.say(f"{visible(video)}: {text}")
        else:
            self._check_room(target, found, text, report)

    def _estimate(self, video: str, target: Path | None) -> Estimate:
        with opened(video, self._engine.terminal, self._engine.cancelled) as file:
            if target is not None:
                check_other(target, file)
            return self._engine.estimate(source_name(video), file)

    def _check_room(self, target: Path, found: Estimate, text: str, report: dict[str, Any]) -> None:
        folder = _existing(target.parent)
        device = folder.stat().st_dev
        free = report["free"] = max(shutil.disk_usage(folder).free - self._promised[device], 0)
        self._engine.terminal.say(f"{visible(str(target))}: {text} ({size(free)} free)")
        replaced = target.stat().st_size if target.is_file() else 0  # which goes once the new one is complete
        self._promised[device] += found.size - replaced
        if found.size > free and not found.at_most:
            raise NoSpace(f"the ZIP needs about {size(found.size)}, and {size(free)} are free in {str(folder)!r}")


def _lasting(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 1 else "less than 1 s"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there already."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
