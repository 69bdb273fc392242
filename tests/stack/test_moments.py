"""SIGKILL at the moments that matter. PostgreSQL's own locks hold a process there: nothing in it knows of the test."""

from __future__ import annotations

import io
import threading
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psycopg2
import pytest
from pika.exceptions import ChannelClosedByBroker

from fiapx.adapters.rabbit_topology import DEAD, JOBS
from fiapx.core.events import JOB_QUEUED, Event
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.stack import Stack
from tests.faults.table import Observed
from tests.processing_kit import eventually
from tests.rabbit import rabbit_channel, ready_messages
from tests.stack.kit import LONG, Logs, User, ask, away, killed, results, schema, started, wait_until_ready

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("books")]


@contextmanager
def locked(stack: Stack, statement: str) -> Iterator[None]:
    """While a transaction of ours has executed this."""
    address = stack.postgres.url("postgres").rpartition("/")[0]
    with closing(psycopg2.connect(f"{address}/processing")) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO {schema(stack)}; {statement}")
        yield
        connection.rollback()


def waits_for_lock(stack: Stack, words: str) -> bool:
    """Whether a statement that begins so hangs."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE "
    return bool(ask(stack, f"{query}'{words}%'"))


def stored(stack: Stack) -> set[Path]:
    """The files of complete objects."""
    storage = stack.home / "storage"
    return {path for kind in ("videos", "jobs") for path in (storage / kind).rglob("*") if path.is_file()}


@pytest.mark.fault(2, "SIGKILL of processing after fsync, before commit")
def test_an_object_whose_row_never_came_is_swept(stack: Stack, ana: User, clip: Path, observed: Observed) -> None:
    before = stored(stack)
    statuses: list[int] = []

    def send() -> None:
        try:
            statuses.append(ana.client.post("/videos?name=a.mp4", content=clip.read_bytes()).status_code)
        except httpx.TransportError:
            statuses.append(0)

    sending = threading.Thread(target=send)
    with locked(stack, "LOCK TABLE videos IN EXCLUSIVE MODE"):
        sending.start()
        eventually(lambda: waits_for_lock(stack, "INSERT INTO videos"), 30)
        killed(stack.of("processing"))
    sending.join()
    started(stack.of("processing"))
    with observed.recovery():
        wait_until_ready(stack)
        eventually(lambda: stored(stack) == before, 60)
    assert not 200 <= statuses[0] < 300
    assert ana.client.get("/videos").json()["items"] == []
    observed.says(f"status {statuses[0]}, no row, object swept")


@pytest.mark.fault(3, "SIGKILL of processing after commit, before publish")
def test_what_was_not_published_is_published_promptly_and_once(
    stack: Stack, ana: User, clip: Path, observed: Observed
) -> None:
    first, *others = stack.of("processing")
    with away([*stack.of("worker"), *others]):
        before = ready_messages(stack.rabbit, JOBS)
        stack.rabbit.stop()
        try:
            job_id = ana.upload(clip)["id"]
            killed([first])
        finally:
            stack.rabbit.start()
        assert _waiting(stack, job_id) == 1
        eventually(lambda: ready_messages(stack.rabbit, JOBS) == before, 30)
        started([first])
        with observed.recovery(within=5):
            eventually(lambda: _waiting(stack, job_id) == 0, 30)
        assert ready_messages(stack.rabbit, JOBS) == before + 1
    assert ana.completed(job_id)["attempt"] == 1
    observed.says("published once, one run")


@pytest.mark.fault(4, "SIGKILL of the relay after confirm, before mark")
def test_what_was_not_marked_is_published_again_and_runs_once(
    stack: Stack, ana: User, clip: Path, observed: Observed
) -> None:
    with away(stack.of("worker")):
        before = ready_messages(stack.rabbit, JOBS)
        stack.rabbit.pause()
        try:
            job_id = ana.upload(clip)["id"]
            with locked(stack, "LOCK TABLE outbox IN EXCLUSIVE MODE"):
                stack.rabbit.resume()
                eventually(lambda: waits_for_lock(stack, "UPDATE outbox"), 60)
                killed(stack.of("processing"))
        finally:
            stack.rabbit.resume()
        assert ready_messages(stack.rabbit, JOBS) == before + 1
        started(stack.of("processing"))
        with observed.recovery():
            eventually(lambda: _waiting(stack, job_id) == 0, 30)
        assert ready_messages(stack.rabbit, JOBS) == before + 2
    assert ana.completed(job_id)["attempt"] == 1
    observed.says("published again, one run")


def _waiting(stack: Stack, job_id: str) -> object:
    where = f"subject = '{job_id}' AND published_ms IS NULL"
    return ask(stack, f"SELECT count(*) FROM {schema(stack)}.outbox WHERE {where}")


@pytest.mark.fault(8, "SIGKILL of the worker between ZIP and commit")
def test_a_zip_whose_job_was_not_completed_is_made_again(
    stack: Stack, ana: User, clip: Path, observed: Observed
) -> None:
    job_id = _held_at_its_end(stack, ana, clip)
    with observed.recovery():
        job = ana.completed(job_id, 90)
    assert job["attempt"] == 2
    body = ana.client.get(f"/jobs/{job_id}/result").content
    with zipfile.ZipFile(io.BytesIO(body)) as result:
        assert result.testzip() is None
    eventually(lambda: results(stack, job_id) == ["2.zip"], 90)
    observed.says("completed by attempt 2, the ZIP of attempt 1 swept")


def _held_at_its_end(stack: Stack, ana: User, clip: Path) -> str:
    """A job whose workers are killed when its ZIP is stored and its row is not written."""
    with away(stack.of("worker")):
        job_id = str(ana.upload(clip)["id"])
        with locked(stack, "LOCK TABLE outbox IN EXCLUSIVE MODE"):
            started(stack.of("worker"))
            eventually(lambda: results(stack, job_id) == ["1.zip"], 60)
            killed(stack.of("worker"))
    return job_id


@pytest.mark.fault(18, "the same message ten times, garbage, and an unknown id")
def test_repeated_and_senseless_messages_make_one_run(stack: Stack, ana: User, clip: Path, observed: Observed) -> None:
    dead = ready_messages(stack.rabbit, DEAD)
    with away(stack.of("worker")):
        job_id = ana.upload(clip)["id"]
        same = Event(id=str(uuid.uuid4()), type=JOB_QUEUED, subject=job_id, created_ms=0)
        unknown = Event(id=str(uuid.uuid4()), type=JOB_QUEUED, subject=str(uuid.uuid4()), created_ms=0)
        with rabbit_channel(stack.rabbit) as channel:
            for body in [same.model_dump_json().encode()] * 10 + [b"{garbage", unknown.model_dump_json().encode()]:
                channel.basic_publish("", JOBS, body)
    assert ana.completed(job_id)["attempt"] == 1
    eventually(lambda: ready_messages(stack.rabbit, JOBS) == 0, 60)
    eventually(lambda: ready_messages(stack.rabbit, DEAD) == dead + 1, 60)
    observed.says("one run, one dead letter")


@contextmanager
def impatient(rabbit: PrivateRabbit) -> Iterator[None]:
    """RabbitMQ closes channels opened meanwhile that keep a message for a second."""

    def patience(timeout: int, tick: int) -> None:
        for name, value in (("consumer_timeout", timeout), ("channel_tick_interval", tick)):
            rabbit.ctl("eval", f"application:set_env(rabbit, {name}, {value}).")

    patience(1000, 300)
    try:
        yield
    finally:
        patience(1_800_000, 60_000)


def time_out(rabbit: PrivateRabbit) -> None:
    """Keep a message until RabbitMQ's patience is over."""
    with rabbit_channel(rabbit) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"kept")
        with pytest.raises(ChannelClosedByBroker, match="timed out"):
            list(channel.consume(queue, inactivity_timeout=1))


@pytest.mark.fault(17, "a consumer_timeout of a second, below the job's length")
def test_a_job_longer_than_the_patience_of_the_broker_runs_once(
    stack: Stack, ana: User, clip: Path, logs: Logs, observed: Observed
) -> None:
    with impatient(stack.rabbit):
        with away(stack.of("worker")):
            job_ids = [ana.upload(clip, **LONG | {"fps": fps})["id"] for fps in ("20", "24", "25")]
        time_out(stack.rabbit)
        assert {ana.job(job_id)["state"] for job_id in job_ids} != {"completed"}
        jobs = [ana.completed(job_id, 120) for job_id in job_ids]
    with away(stack.of("worker")):
        pass  # RabbitMQ's patience is that of when a channel was opened
    assert [job["attempt"] for job in jobs] == [1, 1, 1]
    runs = [told["job_id"] for told in logs.events("worker", "attempt_started")]
    assert [runs.count(job_id) for job_id in job_ids] == [1, 1, 1]
    observed.says("one run of each job")
