"""Proof that the books are right: every row against its object, every accepted job against its one end.

What is wrong is looked at twice: a service may be at work meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, BinaryIO, Final

from sqlalchemy import ColumnElement, Engine, Row, Table, and_, func, or_, select

from fiapx.core.errors import NotFound
from fiapx.core.jobs import LIVE, JobState
from fiapx.core.ports import Partials, Storage
from fiapx.server.processing.faults import Fault, FaultKind
from fiapx.server.processing.metrics import TERMINAL_EVENTS
from fiapx.server.processing.store import Store
from fiapx.server.processing.tables import jobs, outbox, videos
from fiapx.server.processing.uploads.audit import UploadAudit
from fiapx.server.sql import ago, now_ms, reader

_BATCH: Final = 500
_CHUNK: Final = 1 << 20
_LATE: Final = 120
"""Seconds after which a reaper, or a relay, should have come by."""
_REMEMBERED: Final = 6 * 24 * 3600
"""Seconds for which published events are certainly kept."""
_MANIFEST: Final = "manifest.json"


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    videos: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    """How many jobs are in each state."""
    results: int = 0
    objects: int = 0
    faults: list[Fault] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Audit:
    """`quick`: objects need be there with their sizes, and no more than their ends are read. `orphan_age` in seconds:
    younger objects may wait for their rows."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        storage: Storage,
        partials: Partials,
        *,
        orphan_age: float,
        quick: bool,
    ) -> None:
        self._store = store
        self._engine = reader(engine)
        self._storage = storage
        self._orphan_age = orphan_age
        self._quick = quick
        self._uploads = UploadAudit(self._engine, storage, partials, orphan_age)

    def run(self, advance: Callable[[int, int], None] = lambda _done, _total: None) -> Report:
        """Look at everything; `advance` is told (rows done, rows in all). Raises Unavailable."""
        report = Report(jobs=self._states())
        stored = jobs.c.result_key.is_not(None)
        total = self._count(videos, videos.c.id.is_not(None)) + self._count(jobs, stored)
        for row in self._rows(videos, videos.c.id.is_not(None)):
            report.faults += self._object(f"video {row.id}", row.id, _Object(row.storage_key, row.size, row.sha256))
            report.videos += 1
            advance(report.videos, total)
        for row in self._rows(jobs, stored):
            result = _Object(row.result_key, row.result_size, row.result_sha256, row.frames)
            report.faults += self._object(f"job {row.id}", row.id, result)
            report.results += 1
            advance(report.videos + report.results, total)
        report.faults += [*self._stuck(), *self._unended(), *self._unpublished(), *self._orphans(report)]
        report.faults += self._uploads.faults()
        return report

    def _states(self) -> dict[str, int]:
        with self._engine.connect() as connection:
            found = connection.execute(select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state))
            return {row.state: row.number for row in found}

    def _count(self, table: Table, which: ColumnElement[bool]) -> int:
        with self._engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(table).where(which)) or 0

    def _rows(self, table: Table, which: ColumnElement[bool]) -> Iterator[Row[Any]]:
        """All such rows, a batch a transaction: an audit may take hours."""
        last = ""
        while True:
            query = select(table).where(which, table.c.id > last).order_by(table.c.id).limit(_BATCH)
            with self._engine.connect() as connection:
                batch = connection.execute(query).all()
            yield from batch
            if len(batch) < _BATCH:
                return
            last = batch[-1].id

    def _object(self, subject: str, row_id: str, expected: _Object) -> Iterator[Fault]:
        fault = self._look(expected)
        if fault and self._still(row_id, expected.key):
            kind, text = fault
            yield Fault(kind, subject, f"{expected.key} {text}")

    def _look(self, expected: _Object) -> tuple[FaultKind, str] | None:
        try:
            damage = self._glance(expected) if self._quick else self._read(expected)
        except NotFound:
            return "missing", "is not there"
        except OSError as error:
            return "damaged", f"cannot be read: {error.strerror}"
        return ("damaged", damage) if damage else None

    def _glance(self, expected: _Object) -> str | None:
        """Read the last byte, and ask for one more: storage tells no sizes, and may have to copy what it opens."""
        last = max(expected.size - 1, 0)
        end = last + sum(map(len, self._storage.read(expected.key, last, expected.size + 1)))
        return expected.wrong_size(end)

    def _read(self, expected: _Object) -> str | None:
        with self._storage.open(expected.key) as file:
            if damage := expected.wrong_size(file.seek(0, io.SEEK_END)):
                return damage
            file.seek(0)
            return expected.damage(file)

    def _still(self, row_id: str, key: str) -> bool:
        """Do the books still say so?"""
        owned = select(videos.c.storage_key).where(videos.c.id == row_id)
        made = select(jobs.c.result_key).where(jobs.c.id == row_id)
        with self._engine.connect() as connection:
            return key in set(connection.scalars(owned.union_all(made)))

    def _stuck(self) -> Iterator[Fault]:
        overdue = and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until_ms < ago(_LATE))
        with self._engine.connect() as connection:
            for job_id in connection.scalars(select(jobs.c.id).where(overdue)):
                yield Fault("stuck", f"job {job_id}", "its worker is silent, and nobody takes it back")

    def _unended(self) -> Iterator[Fault]:
        """Jobs that ended lately have one event that says so; older events are forgotten."""
        ended = outbox.c.type.in_(TERMINAL_EVENTS)
        events = select(outbox.c.subject, func.count().label("n")).where(ended).group_by(outbox.c.subject).subquery()
        lately = and_(
            jobs.c.state.not_in(LIVE), jobs.c.finished_ms > ago(_REMEMBERED), func.coalesce(events.c.n, 0) != 1
        )
        early = and_(jobs.c.state.in_(LIVE), events.c.n > 0)
        query = (
            select(jobs.c.id, jobs.c.state, func.coalesce(events.c.n, 0))
            .select_from(jobs.outerjoin(events, events.c.subject == jobs.c.id))
            .where(or_(lately, early))
        )
        with self._engine.connect() as connection:
            for job_id, state, count in connection.execute(query):
                yield Fault("unended", f"job {job_id}", f"is {state} and has {count} events that say how it ended")

    def _unpublished(self) -> Iterator[Fault]:
        waiting = select(func.count(), func.min(outbox.c.created_ms), now_ms()).where(
            outbox.c.published_ms.is_(None), outbox.c.created_ms < ago(_LATE)
        )
        with self._engine.connect() as connection:
            count, oldest, now = connection.execute(waiting).one()
        if count:
            yield Fault("unpublished", "outbox", f"{count} events wait, for {(now - oldest) // 1000} s at most")

    def _orphans(self, report: Report) -> Iterator[Fault]:
        for prefix in ("videos/", "jobs/", "parts/"):
            found = self._storage.list(prefix)
            while batch := list(islice(found, _BATCH)):
                report.objects += len(batch)
                for key in sorted(self._store.unclaimed([key for key, age in batch if age >= self._orphan_age])):
                    yield Fault("orphan", key, "no row names it")


@dataclass(frozen=True)
class _Object:
    """What the books say of an object. `frames`: it is a ZIP with so many."""

    key: str
    size: int
    sha256: str
    frames: int | None = None

    def wrong_size(self, size: int) -> str | None:
        """What is wrong with an object of `size` bytes, if anything."""
        return None if size == self.size else f"has {size} bytes instead of {self.size}"

    def damage(self, file: BinaryIO) -> str | None:
        """What is wrong with the object's bytes, if anything."""
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != self.sha256:
            return "has other bytes than were written"
        return None if self.frames is None else self._wrong_frames(file)

    def _wrong_frames(self, file: BinaryIO) -> str | None:
        """It holds exactly the frames of its manifest, all of them whole."""
        try:
            with zipfile.ZipFile(file) as archive:
                if broken := archive.testzip():
                    return f"holds a damaged {broken}"
                named = {frame["file"] for frame in json.loads(archive.read(_MANIFEST))["frames"]}
                if len(named) == self.frames and named <= {*archive.namelist()}:
                    return None
        except (zipfile.BadZipFile, KeyError, ValueError):
            return "is no ZIP of frames"
        return f"holds other frames than the {self.frames} of its job"
