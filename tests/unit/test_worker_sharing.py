"""One video on several workers, with the real engine: the result is the very one that a worker makes alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from fiapx.core.errors import DecoderFailed
from fiapx.core.options import extract_options
from fiapx.media import task
from fiapx.media.fingerprint import fingerprint
from fiapx.server.processing import tables
from fiapx.server.processing.parts import Parts
from fiapx.worker import helping, split
from fiapx.worker.attempt import Workshop
from fiapx.worker.run import Worker
from fiapx.worker.split import Sharing
from tests.media.clips import X264, Clip
from tests.media.extracting import run
from tests.processing_kit import BOB, Processing, eventually, processing

CLIP = Clip("long.mp4", (*X264, "-bf", "2", "-g", "20"), frames=400)
SMALL = 0.01
"""Each segment is a part: the clip has small pictures."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path, lease=5, max_upload_bytes=2**30) as service:
        yield service


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CLIP.make(tmp_path_factory.mktemp("sharing"))


def parts_of(service: Processing) -> Parts:
    return Parts(service.transitions, lease=5, fingerprint=fingerprint())


@contextmanager
def working(service: Processing, *, part: float = SMALL) -> Iterator[Worker]:
    sharing = Sharing(parts_of(service), service.storage, 1, part)
    shop = Workshop(service.leases, service.storage, service.cache, heartbeat=1, sharing=sharing)
    worker = Worker(shop, service.bus, poll=0.05)
    worker.start()
    try:
        yield worker
    finally:
        assert worker.stop(0)


def queue(service: Processing, video: Path, **options: Any) -> str:
    return service.queue_job(options=extract_options(**options), name=video.name, content=video.read_bytes())


def result(service: Processing, job_id: str) -> bytes:
    eventually(lambda: service.row(job_id).state in {"completed", "failed", "cancelled"}, timeout=60)
    row = service.row(job_id)
    assert row.state == "completed", (row.error_code, row.error_message)
    return b"".join(service.storage.read(row.result_key))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Who makes parts: (``worker`` or ``helper``, name of the thread)."""
    by: list[tuple[str, str]] = []

    def told(who: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            by.append((who, threading.current_thread().name))
            function(*arguments, **options)

        return call

    monkeypatch.setattr(split, "record", told("worker", task.record))
    monkeypatch.setattr(helping, "perform", told("helper", task.perform))
    return by


def nothing_is_left(service: Processing) -> None:
    assert service.count(tables.parts) == 0
    assert not [key for key in service.objects() if key.startswith("parts/")]


@pytest.mark.parametrize(
    "options",
    [{"fps": "25", "format": "png", "drop_similar": 0.5, "sheet": True}, {"scenes": 1.0}],
    ids=["fps", "scenes"],
)
def test_three_workers_make_what_one_makes(
    service: Processing, video: Path, made: list[tuple[str, str]], options: dict[str, Any]
) -> None:
    job_id = queue(service, video, **options)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(working(service))
        assert result(service, job_id) == run(video, **options).data
    assert {who for who, _ in made} == {"worker", "helper"}
    assert service.row(job_id).attempt == 1
    nothing_is_left(service)


def test_a_small_job_is_not_shared(service: Processing, video: Path, made: list[tuple[str, str]]) -> None:
    job_id = queue(service, video, fps="1")
    with working(service, part=100):
        assert result(service, job_id) == run(video, fps="1").data
    assert made == []
    assert service.events(job_id) == ["job.queued", "job.completed"]


def test_helpers_that_fail_cost_nothing_but_time(
    service: Processing, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(*_arguments: object, **_options: object) -> None:
        raise DecoderFailed

    monkeypatch.setattr(helping, "perform", perform)
    job_id = queue(service, video, fps="25")
    with working(service), working(service):
        assert result(service, job_id) == run(video, fps="25").data
    nothing_is_left(service)


def test_a_database_that_is_away_for_a_moment_costs_no_attempt(
    service: Processing, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question fails twice: before the database has heard it, and after it has done what was asked."""

    def interrupted(question: Callable[..., Any]) -> Callable[..., Any]:
        asked: list[None] = []

        def ask(*arguments: Any) -> Any:
            asked.append(None)
            answer = None if len(asked) == 1 else question(*arguments)
            if len(asked) <= 2:
                raise OperationalError("", {}, Exception("the connection is gone"))
            return answer

        return ask

    for name in ("plan", "made", "claim_of", "complete"):
        monkeypatch.setattr(Parts, name, interrupted(getattr(Parts, name)))
    job_id = queue(service, video, fps="25")
    with working(service):
        assert result(service, job_id) == run(video, fps="25").data
    assert service.row(job_id).attempt == 1
    nothing_is_left(service)


def test_the_next_worker_takes_up_what_is_made(
    service: Processing, video: Path, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one stops in the middle."""
    job_id = queue(service, video, fps="25")
    halfway = threading.Event()
    original = split.__dict__["record"]  # as `made` has it

    def slowly(*arguments: Any) -> None:
        if len(made) == 5:
            halfway.set()
            raise DecoderFailed
        original(*arguments)

    monkeypatch.setattr(split, "record", slowly)
    with working(service):
        assert halfway.wait(30)
        monkeypatch.setattr(split, "record", original)
        assert result(service, job_id) == run(video, fps="25").data
    parts = 20
    assert len(made) == parts, "no part was made twice"
    assert service.row(job_id).attempt == 2


def test_a_cancelled_job_frees_its_helpers(service: Processing, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helping_now = threading.Event()

    def perform(*_arguments: object, cancelled: threading.Event, **_options: object) -> None:
        helping_now.set()
        assert cancelled.wait(20)
        raise DecoderFailed

    monkeypatch.setattr(helping, "perform", perform)
    job_id = queue(service, video, fps="25")
    user = service.row(job_id).user_id
    with working(service), working(service):
        assert helping_now.wait(30)
        service.store.cancel(user, job_id)
        again = queue(service, video, fps="2")
        assert result(service, again)
    service.maintenance.sweep()
    nothing_is_left(service)


def test_a_helper_drops_its_part_for_a_job(service: Processing, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another user: the large job's own worker is busy, and the helper would be so for ever."""
    helping_now = threading.Event()
    original = task.perform

    def perform(*arguments: Any, cancelled: threading.Event, **options: Any) -> None:
        if not helping_now.is_set():
            helping_now.set()
            assert cancelled.wait(60)
        original(*arguments, cancelled=cancelled, **options)

    monkeypatch.setattr(helping, "perform", perform)
    large = queue(service, video, fps="25")
    with working(service), working(service):
        assert helping_now.wait(30)
        small = service.queue_job(BOB, extract_options(fps="1"), video.name, video.read_bytes())
        assert result(service, small) == run(video, fps="1").data
        assert result(service, large) == run(video, fps="25").data
    assert service.row(small).finished_ms < service.row(large).finished_ms
    assert service.row(small).attempt == service.row(large).attempt == 1
    nothing_is_left(service)


def test_parts_that_wait_count_like_a_job_that_waits(service: Processing, video: Path) -> None:
    queue(service, video, fps="25")
    claim, parts = service.claim(), parts_of(service)
    assert service.reads.oldest_waiting() is None
    parts.plan(claim, "frames", ["{}"])
    assert service.reads.oldest_waiting() is not None
    assert parts.claim_of(claim, "frames")
    assert service.reads.oldest_waiting() is None
