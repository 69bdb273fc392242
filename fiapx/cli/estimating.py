"""`fiapx extract --estimate`: what an extraction would give and cost, and whether the disk holds it."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from fiapx.cli.engine import Engine
from fiapx.cli.inputs import opened, source_name
from fiapx.cli.outputs import STDOUT
from fiapx.cli.text import duration, plural
from fiapx.core.errors import Cancelled, NoSpace
from fiapx.core.text import size, visible


class Estimates:
    """The videos of one command. What those before need of a disk is not free for those after them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._promised: dict[int, int] = defaultdict(int)
        """Device → bytes."""

    def of(self, video: str, target: Path | None, report: dict[str, Any]) -> None:
        """Estimate one video, and add what there is to tell to the report. `target` is None for standard output.

        Raises NoSpace where the disk has no room for the ZIP.
        """
        terminal, cancelled = self._engine.terminal, self._engine.cancelled
        if cancelled.is_set():
            raise Cancelled
        with opened(video, terminal, cancelled) as file:
            found = self._engine.estimate(source_name(video), file)
        most = "at most " if found.at_most else ""
        report |= {
            "output": STDOUT if target is None else str(target),
            "frames": found.frames,
            "at_most": found.at_most,
            "bytes": found.size,
            "seconds": round(found.seconds, 1),
            "sampled": found.sampled,
        }
        where = video if target is None else str(target)
        text = f"{most}{plural(found.frames, 'frame')}, {most or 'about '}{size(found.size)}, {_lasting(found.seconds)}"
        if target is None:
            terminal.say(f"{visible(where)}: {text}")
            return
        folder = _existing(target.parent)
        device = folder.stat().st_dev
        free = report["free"] = max(shutil.disk_usage(folder).free - self._promised[device], 0)
        terminal.say(f"{visible(where)}: {text} ({size(free)} free)")
        self._promised[device] += found.size
        if found.size > free and not found.at_most:
            raise NoSpace(f"the ZIP needs about {size(found.size)}, and {size(free)} are free in {str(folder)!r}")


def _lasting(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 1 else "less than 1 s"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there already."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
