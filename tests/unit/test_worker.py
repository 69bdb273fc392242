"""The worker: what it publishes, when it stops, and that nothing is left behind. The engine is a stand-in here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from fiapx.core.errors import Cancelled, CorruptMedia, DecoderFailed
from fiapx.core.events import Event
from fiapx.core.options import ExtractOptions
from fiapx.media.model import Limits, Output, Progress, Result, Source
from fiapx.media.spare import Spare
from fiapx.server.processing.progress import get_progress
from fiapx.worker.attempt import Workshop
from fiapx.worker.run import Worker
from tests.processing_kit import ANA, Archive, Processing, eventually, processing

LIMITS = Limits(max_frames=1234)


class Engine:
    """Extracts what `behave` says; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.behave: Callable[[threading.Event], object] = lambda _cancelled: None
        self.archive = Archive.of(2)

    def __call__(
        self,
        source: Source,
        options: ExtractOptions,
        output: Output,
        *,
        limits: Limits,
        ffmpeg: Path | None,
        on_progress: Callable[[Progress], None],
        cancelled: threading.Event,
        jobs: int,
        spread: object,
        spare: Spare | None,
    ) -> Result:
        assert (jobs, spread) == (1, None)
        assert spare is None or isinstance(spare, Spare)
        call = {"name": source.name, "bytes": source.file.read(), "sha256": source.sha256, "options": options}
        self.calls.append(call | {"limits": limits})
        output.write(self.archive.content[:100])
        on_progress(Progress(1, 2))
        self.behave(cancelled)
        output.write(self.archive.content[100:])
        return self.archive.result


def obedient(cancelled: threading.Event) -> None:
    """Works until it is told to stop."""
    assert cancelled.wait(20)
    raise Cancelled


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr("fiapx.worker.attempt.extract", engine)
    return engine


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path) as service:
        yield service


@contextmanager
def working(service: Processing, *, concurrency: int = 1, heartbeat: float = 10) -> Iterator[Worker]:
    """A started worker, and the relay that wakes it."""
    shop = Workshop(service.leases, service.storage, service.cache, LIMITS, heartbeat)
    worker = Worker(shop, service.bus, concurrency=concurrency, poll=0.05)
    stop = threading.Event()
    relay = threading.Thread(target=service.relay.run, args=(stop,))
    relay.start()
    worker.start()
    try:
        yield worker
    finally:
        assert worker.stop(0)
        stop.set()
        relay.join()


def state(service: Processing, job_id: str) -> str:
    return str(service.row(job_id).state)


def reach(service: Processing, job_id: str, wanted: str) -> None:
    eventually(lambda: state(service, job_id) == wanted)


def results(service: Processing) -> list[str]:
    """Everything in storage but videos."""
    return [key for key in service.objects() if not key.startswith("videos/")]


def test_does_identical_work_once(service: Processing, engine: Engine) -> None:
    engine.behave = lambda _cancelled: time.sleep(0.2)
    jobs = [service.queue_job(content=b"the same") for _ in range(4)]
    with working(service, concurrency=3):
        for job_id in jobs:
            reach(service, job_id, "completed")
    assert len(engine.calls) == len(results(service)) == 1
    assert [service.row(job_id).reused_from for job_id in jobs].count(None) == 1
    assert all(get_progress(service.cache, job_id, 1) is None for job_id in jobs)


def test_runs_a_job_and_publishes_its_result(service: Processing, engine: Engine) -> None:
    with working(service):
        options = ExtractOptions.model_validate({"fps": 2})
        job_id = service.queue_job(options=options, name="my clip.mp4", content=b"video bytes")
        reach(service, job_id, "completed")
    assert b"".join(service.storage.read(f"jobs/{job_id}/1.zip")) == engine.archive.content
    row = service.row(job_id)
    assert (row.frames, row.result_sha256, row.result_size) == (
        2,
        engine.archive.result.sha256,
        len(engine.archive.content),
    )
    (call,) = engine.calls
    assert (call["name"], call["bytes"], call["options"].fps, call["limits"]) == (
        "my clip.mp4",
        b"video bytes",
        2,
        LIMITS,
    )
    assert len(call["sha256"]) == 64
    assert get_progress(service.cache, job_id, 1) is None


def test_many_threads_run_every_job_once(service: Processing, engine: Engine) -> None:
    jobs = [service.queue_job() for _ in range(12)]
    with working(service, concurrency=4), working(service, concurrency=2):
        for job_id in jobs:
            reach(service, job_id, "completed")
    assert len(engine.calls) == 12
    assert all(service.row(job_id).attempt == 1 for job_id in jobs)


def test_shows_progress_while_it_runs(service: Processing, engine: Engine) -> None:
    engine.behave = obedient
    with working(service):
        job_id = service.queue_job()
        eventually(lambda: get_progress(service.cache, job_id, 1) is not None)
        view = service.queries.job(ANA.user_id, job_id)
        assert view.progress is not None
        assert (view.progress.done, view.progress.total) == (1, 2)


def test_cancelling_stops_the_engine_within_two_seconds(service: Processing, engine: Engine) -> None:
    engine.behave = obedient
    with working(service):
        job_id = service.queue_job()
        reach(service, job_id, "running")
        started = time.monotonic()
        service.commands.cancel(ANA, job_id)
        eventually(lambda: results(service) == [])
        assert time.monotonic() - started < 2
        engine.behave = lambda _cancelled: None
        reach(service, service.queue_job(), "completed")
    assert state(service, job_id) == "cancelled"
    assert service.events(job_id) == ["job.queued", "job.cancelled"]


def test_a_deleted_account_stops_its_jobs(service: Processing, engine: Engine) -> None:
    engine.behave = obedient
    with working(service):
        reach(service, service.queue_job(), "running")
        service.commands.user_deleted(Event(id="e", type="user.deleted", subject=ANA.user_id, created_ms=0))
        eventually(lambda: service.objects() == [])
    assert service.count() == 0


@pytest.mark.parametrize(
    ("error", "attempts", "code"),
    [
        (CorruptMedia("No moov."), 1, "corrupt_media"),
        (DecoderFailed(), 3, "crash_loop"),
        (OSError("?"), 3, "crash_loop"),
    ],
)
def test_failures_leave_nothing_and_the_worker_goes_on(
    service: Processing, engine: Engine, error: Exception, attempts: int, code: str
) -> None:
    def fail(_cancelled: threading.Event) -> None:
        raise error

    engine.behave = fail
    with working(service) as worker:
        job_id = service.queue_job()
        reach(service, job_id, "failed")
        assert worker.alive()
        engine.behave = lambda _cancelled: None
        reach(service, service.queue_job(), "completed")
    row = service.row(job_id)
    assert (row.attempt, row.error_code) == (attempts, code)
    assert len(results(service)) == 1


@pytest.mark.fault(7, "a worker that comes back after another has done its job")
def test_a_zombie_deletes_its_own_output_and_no_other(service: Processing, engine: Engine) -> None:
    """A worker that slept past its lease comes back after another has done the job."""
    asleep = threading.Event()
    engine.behave = lambda _cancelled: asleep.wait(20)
    with working(service):
        job_id = service.queue_job()
        reach(service, job_id, "running")
        service.leases.lease = 0
        with service.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET lease_until_ms = 1")
        assert service.leases.reap() == 1
        service.leases.lease = 30
        heir = service.claim()
        service.complete(heir, engine.archive)
        asleep.set()
        eventually(lambda: results(service) == [heir.result_key])
    assert service.row(job_id).result_key == f"jobs/{job_id}/2.zip"
    assert service.events(job_id).count("job.completed") == 1


def test_stopping_lets_the_running_job_finish(service: Processing, engine: Engine) -> None:
    engine.behave = lambda _cancelled: time.sleep(0.3)
    with working(service) as worker:
        first, second = service.queue_job(), service.queue_job()
        eventually(lambda: len(engine.calls) == 1)
        assert worker.stop(10)
    assert sorted([state(service, first), state(service, second)]) == ["completed", "queued"]
    assert len(engine.calls) == 1


def test_stopping_gives_the_job_back_after_the_grace_time(service: Processing, engine: Engine) -> None:
    engine.behave = obedient
    with working(service) as worker:
        job_id = service.queue_job()
        reach(service, job_id, "running")
        started = time.monotonic()
        assert worker.stop(0.3)
        assert 0.3 <= time.monotonic() - started < 2
    row = service.row(job_id)
    assert (row.state, row.attempt, row.failures) == ("queued", 1, 0)
    assert results(service) == []


def test_a_second_stop_does_not_wait(service: Processing, engine: Engine) -> None:
    engine.behave = obedient
    with working(service) as worker:
        job_id = service.queue_job()
        reach(service, job_id, "running")
        patient = threading.Thread(target=worker.stop, args=(60,))
        patient.start()
        started = time.monotonic()
        assert worker.stop(0)
        patient.join()
        assert time.monotonic() - started < 2
    assert (state(service, job_id), service.row(job_id).failures) == ("queued", 0)


def test_a_decoder_that_dies_of_the_stop_is_not_charged(service: Processing, engine: Engine) -> None:
    def die(cancelled: threading.Event) -> None:
        cancelled.wait(20)
        raise DecoderFailed

    engine.behave = die
    with working(service) as worker:
        job_id = service.queue_job()
        reach(service, job_id, "running")
        worker.stop(0)
    assert (state(service, job_id), service.row(job_id).failures) == ("queued", 0)


def test_a_long_job_keeps_its_lease(tmp_path: Path, engine: Engine) -> None:
    engine.behave = lambda _cancelled: time.sleep(1.5)
    with processing(tmp_path, lease=0.6) as service, working(service, heartbeat=0.1):
        job_id = service.queue_job()
        reach(service, job_id, "running")
        while state(service, job_id) == "running":
            service.leases.reap()
            time.sleep(0.02)
        assert (state(service, job_id), service.row(job_id).attempt) == ("completed", 1)


@pytest.mark.fault(20, "no renewal of a lease")
@pytest.mark.parametrize("silent", [False, True], ids=["away", "silent"])
def test_a_worker_that_cannot_renew_stops_before_the_lease_is_over(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    stopped: list[float] = []
    back = threading.Event()

    def timed(cancelled: threading.Event) -> None:
        cancelled.wait(20)
        stopped.append(time.monotonic())
        raise Cancelled

    def down(*_: object) -> None:
        if silent:
            back.wait(20)
        raise OperationalError("SELECT", None, OSError("the database is away"))

    engine.behave = timed
    with processing(tmp_path, lease=2.0) as service, working(service, heartbeat=0.1):
        for method in ("renew", "owned", "release", "fail", "complete"):
            monkeypatch.setattr(service.leases, method, down)
        started = time.monotonic()
        job_id = service.queue_job()
        eventually(lambda: bool(stopped))
        assert stopped[0] - started < 2.0
        back.set()
        eventually(lambda: results(service) == [])
        assert state(service, job_id) == "running"
        time.sleep(0.3)
        monkeypatch.undo()
        engine.behave = lambda _cancelled: None
        monkeypatch.setattr("fiapx.worker.attempt.extract", engine)
        eventually(lambda: service.leases.reap() == 1)
        reach(service, job_id, "completed")


@pytest.mark.fault(21, "no answer to the COMMIT of a completion")
def test_a_completion_without_an_answer_keeps_the_object(
    service: Processing, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = service.leases.complete
    answers: list[str] = []

    def cut(*args: Any) -> None:
        complete(*args)
        answers.append("lost")
        raise OperationalError("COMMIT", None, OSError("the connection was cut"))

    monkeypatch.setattr(service.leases, "complete", cut)
    with working(service):
        job_id = service.queue_job()
        eventually(lambda: bool(answers))
    assert state(service, job_id) == "completed"
    assert results(service) == [f"jobs/{job_id}/1.zip"]


@pytest.mark.parametrize("method", ["reuse", "complete", "fail"])
def test_a_database_that_is_away_for_a_moment_costs_no_attempt(
    service: Processing, engine: Engine, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ask = getattr(service.leases, method)
    troubles = [OperationalError("SELECT", None, OSError("away")), OperationalError("SELECT", None, OSError("away"))]

    def sometimes(*args: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return ask(*args)

    def corrupt(_cancelled: threading.Event) -> None:
        raise CorruptMedia

    if method == "fail":
        engine.behave = corrupt
    monkeypatch.setattr(service.leases, method, sometimes)
    with working(service):
        job_id = service.queue_job()
        reach(service, job_id, "failed" if method == "fail" else "completed")
    assert (service.row(job_id).attempt, len(engine.calls), troubles) == (1, 1, [])


def test_a_database_that_is_away_for_a_while_costs_no_worker(
    service: Processing, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = service.leases.claim
    troubles = [OSError("away"), OSError("still away")]

    def sometimes() -> Any:
        if troubles:
            raise troubles.pop()
        return claim()

    monkeypatch.setattr(service.leases, "claim", sometimes)
    with working(service) as worker:
        reach(service, service.queue_job(), "completed")
        assert worker.alive()
