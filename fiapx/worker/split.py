"""A large job on many workers, from the side of the one that has claimed it: plan the parts, make some, join all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Final, TypeVar

import structlog

from fiapx.core.errors import Cancelled, LeaseLost, NotFound
from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Storage
from fiapx.media.decoder import sense
from fiapx.media.model import EncodedFrame, Refused, VideoInfo
from fiapx.media.pictures import Decode
from fiapx.media.segments import Segment, shares
from fiapx.media.task import Task, frames, record
from fiapx.server.processing.model import Claim, PartClaim, part_key
from fiapx.server.processing.parts import Parts
from fiapx.worker.asking import ask

log = structlog.get_logger(__name__)

_POLL: Final = 0.1
"""Seconds between two looks at a part that somebody else makes."""
_FEWEST: Final = 3
"""Parts from which on it is worth while to share."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sharing:
    """How large jobs are shared. `part` is the size of a part: it takes as long as so many pictures of 1080p to
    decode."""

    parts: Parts
    storage: Storage
    heartbeat: float
    part: float


class Split:
    """The engine's `Spread` for one attempt at a job, which ends once `cancelled` is set."""

    def __init__(self, sharing: Sharing, claim: Claim, options: ExtractOptions, cancelled: Event) -> None:
        self._sharing = sharing
        self._claim = claim
        self._options = options
        self._cancelled = cancelled
        self.shared = False
        """Whether there are parts to forget."""

    def __call__(self, local: Decode, info: VideoInfo) -> Decode:
        def decode(segments: Iterable[Segment]) -> Generator[EncodedFrame | Refused]:
            groups = list(shares(segments, info, self._sharing.part))
            if len(groups) < _FEWEST or self._claim.video_sha256 is None:
                yield from local(segment for group in groups for segment in group)
            else:
                yield from self._join(groups, local)

        return decode

    def forget(self) -> None:
        """The job has ended well: drop the parts."""
        if self.shared:
            for key in self._sharing.parts.forget(self._claim.job_id):
                self._sharing.storage.delete(key)

    def _join(self, groups: Sequence[tuple[Segment, ...]], local: Decode) -> Generator[EncodedFrame | Refused]:
        sha256, kind = self._claim.video_sha256 or "", groups[0][0].kind
        tasks = [Task.of(sha256, self._options, group).to_json() for group in groups]
        self._ask(partial(self._sharing.parts.plan, self._claim, kind, tasks))
        self.shared = True
        log.info("job_shared", job_id=self._claim.job_id, kind=kind, parts=len(groups))
        for number in range(len(groups)):
            yield from self._part(kind, number, groups, local)

    def _part(
        self, kind: str, number: int, groups: Sequence[tuple[Segment, ...]], local: Decode
    ) -> Iterator[EncodedFrame | Refused]:
        """What is in a part, once it is made; until then, make those that nobody makes."""
        parts, job_id = self._sharing.parts, self._claim.job_id
        while True:
            if self._ask(partial(parts.made, job_id, kind, number)):
                try:
                    file = self._sharing.storage.open(part_key(job_id, kind, number))
                except NotFound:
                    self._ask(partial(parts.lost, job_id, kind, number))
                    continue
                with closing(file), sense():
                    yield from frames(file)
                return
            if mine := self._ask(partial(parts.claim_of, self._claim, kind)):
                self._make(mine, groups[mine.number], local)
            elif self._cancelled.wait(_POLL):
                raise Cancelled

    def _make(self, mine: PartClaim, group: tuple[Segment, ...], local: Decode) -> None:
        """Others leave it alone even if it takes longer than its lease, which only the job's next worker looks at."""
        with closing(local(group)) as made, self._sharing.storage.create(mine.key) as writer:
            record(made, writer)
            writer.commit()
        with suppress(LeaseLost):  # the next worker has taken it, and makes the same
            self._ask(partial(self._sharing.parts.complete, mine))
            log.info("part_made", job_id=mine.job_id, kind=mine.kind, part=mine.number)

    def _ask(self, question: Callable[[], T]) -> T:
        """Parts are planned, made and lost but once, and one that was claimed with no answer comes back when its lease
        ends."""
        return ask(question, self._cancelled)
