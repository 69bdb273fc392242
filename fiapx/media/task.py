"""A segment on its own: what another machine needs to make it, and the part that comes back.

The parts of all segments, joined in order, give the very ZIP that one machine makes alone: nothing is encoded again.
"""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from fiapx.core.errors import EngineMismatch, SourceMismatch
from fiapx.core.options import ExtractOptions
from fiapx.media.digest import SourceDigest
from fiapx.media.fingerprint import fingerprint
from fiapx.media.ipc import read_frame, read_message, write_frame, write_message
from fiapx.media.model import EncodedFrame, Limits, Refused, Run, Source
from fiapx.media.pool import decoding
from fiapx.media.process import Watch
from fiapx.media.segments import Segment
from fiapx.media.spare import Spare


@dataclass(frozen=True)
class Task:
    """A segment of a source. Its frames depend on nothing else."""

    source_sha256: str
    options: ExtractOptions
    segment: Segment
    engine: str
    """Fingerprint of the engine that planned it: packets are counted alike, and images come out alike, in no other."""

    @classmethod
    def of(cls, source_sha256: str, options: ExtractOptions, segment: Segment) -> Self:
        """A task for this engine."""
        return cls(source_sha256, options, segment, fingerprint())

    def to_json(self) -> str:
        return json.dumps(
            {
                "source_sha256": self.source_sha256,
                "options": self.options.model_dump(mode="json", exclude_none=True),
                "kind": self.segment.kind,
                "threads": self.segment.threads,
                "runs": [(run.first, run.last, run.wanted) for run in self.segment.runs],
                "engine": self.engine,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, TypeError or LookupError for what `to_json` did not make."""
        values = json.loads(text)
        runs = tuple(Run(first, last, tuple(wanted)) for first, last, wanted in values["runs"])
        options = ExtractOptions.model_validate(values["options"])
        return cls(values["source_sha256"], options, Segment(runs, values["kind"], values["threads"]), values["engine"])


def perform(
    task: Task,
    source: Source,
    part: BinaryIO,
    *,
    limits: Limits = Limits(),
    cancelled: threading.Event | None = None,
    spare: Spare | None = None,
) -> None:
    """Write the task's frames to `part`. Raises EngineMismatch, SourceMismatch, and what `extract` raises."""
    if task.engine != fingerprint():
        raise EngineMismatch
    watch = Watch(limits.timeout, cancelled)
    with (
        decoding(source, task.options, limits, watch, 1, spare) as pool,
        SourceDigest(source) as digest,
    ):
        refused: Refused = frozenset()
        for made in pool.frames([task.segment]):
            if isinstance(made, EncodedFrame):
                write_frame(part, made)
            else:
                refused = made
            watch.check()
        if digest.hex(watch) != task.source_sha256:
            raise SourceMismatch
    write_message(part, {"type": "end"}, array("q", sorted(refused)).tobytes())


def frames(part: BinaryIO) -> Iterator[EncodedFrame | Refused]:
    """The frames of a part, and at last what was refused. Raises ValueError where it is not complete."""
    while (message := read_message(part)) is not None:
        if message.head["type"] == "end":
            yield frozenset(array("q", message.payload))
            return
        yield read_frame(message)
    raise ValueError("the part ends too early")
