"""A part of a video on its own: what another machine needs to make it, and what comes back.

All parts, joined in order, give the very ZIP that one machine makes alone: nothing is encoded again.
"""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Self

from fiapx.core.errors import EngineMismatch, SourceMismatch
from fiapx.core.options import ExtractOptions
from fiapx.media.digest import SourceDigest
from fiapx.media.fingerprint import fingerprint
from fiapx.media.ipc import read_frame, read_message, write_frame, write_message
from fiapx.media.model import EncodedFrame, Limits, Output, Refused, Run, Source
from fiapx.media.pool import decoding
from fiapx.media.process import Watch
from fiapx.media.segments import Segment
from fiapx.media.spare import Spare


@dataclass(frozen=True)
class Task:
    """Segments of a source that follow each other. Their frames depend on nothing else."""

    source_sha256: str
    options: ExtractOptions
    segments: tuple[Segment, ...]
    engine: str
    """Fingerprint of the engine that planned it: packets are counted alike, and images come out alike, in no other."""

    @classmethod
    def of(cls, source_sha256: str, options: ExtractOptions, segments: Iterable[Segment]) -> Self:
        """A task for this engine."""
        return cls(source_sha256, options, tuple(segments), fingerprint())

    def to_json(self) -> str:
        return json.dumps(
            {
                "source_sha256": self.source_sha256,
                "options": self.options.model_dump(mode="json", exclude_none=True),
                "segments": [
                    (segment.kind, segment.threads, [(run.first, run.last, run.wanted) for run in segment.runs])
                    for segment in self.segments
                ],
                "engine": self.engine,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, TypeError or LookupError for what `to_json` did not make."""
        values = json.loads(text)
        segments = tuple(
            Segment(tuple(Run(first, last, tuple(wanted)) for first, last, wanted in runs), kind, threads)
            for kind, threads, runs in values["segments"]
        )
        options = ExtractOptions.model_validate(values["options"])
        return cls(values["source_sha256"], options, segments, values["engine"])


def perform(
    task: Task,
    source: Source,
    part: Output,
    *,
    limits: Limits = Limits(),
    cancelled: threading.Event | None = None,
    jobs: int | None = 1,
    spare: Spare | None = None,
) -> None:
    """Write the task's frames to `part`. Raises EngineMismatch, SourceMismatch, and what `extract` raises.

    At most `jobs` processes decode; `spare` is the first.
    """
    if task.engine != fingerprint():
        raise EngineMismatch
    watch = Watch(limits.timeout, cancelled)
    with (
        decoding(source, task.options, limits, watch, jobs, spare) as pool,
        SourceDigest(source) as digest,
    ):
        record(_watched(pool.frames(task.segments), watch), part)
        if digest.hex(watch) != task.source_sha256:
            raise SourceMismatch


def _watched(made: Iterable[EncodedFrame | Refused], watch: Watch) -> Iterator[EncodedFrame | Refused]:
    for each in made:
        watch.check()
        yield each


def record(made: Iterable[EncodedFrame | Refused], part: Output) -> None:
    """Write what was decoded, in order, as a part that `frames` reads."""
    refused: Refused = frozenset()
    for each in made:
        if isinstance(each, EncodedFrame):
            message = BytesIO()
            write_frame(message, each)
            part.write(message.getvalue())
        else:
            refused |= each
    end = BytesIO()
    write_message(end, {"type": "end"}, array("q", sorted(refused)).tobytes())
    part.write(end.getvalue())


def frames(part: BinaryIO) -> Iterator[EncodedFrame | Refused]:
    """The frames of a part, and at last what was refused. Raises ValueError where it is not complete."""
    while (message := read_message(part)) is not None:
        if message.head["type"] == "end":
            yield frozenset(array("q", message.payload))
            return
        yield read_frame(message)
    raise ValueError("the part ends too early")
