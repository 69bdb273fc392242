"""A server is away, hangs or is full while uploads keep coming: for a moment here, and for as long as a real fault with
``FIAPX_FAULT_SECONDS=60``. Afterwards nothing is lost, nothing is done twice, and the books are right."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from fiapx.adapters.rabbit_topology import JOBS
from scripts.stack import Stack
from tests.faults.table import Observed
from tests.processing_kit import eventually
from tests.stack.kit import Logs, Mailbox, MailServer, User, sick
from tests.stack.uploads import Uploads, all_end_once, uploading

pytestmark = pytest.mark.usefixtures("books")

SECONDS = float(os.environ.get("FIAPX_FAULT_SECONDS", "2"))
BACK = 40.0
"""Seconds after the end of a fault in which uploads are taken, and everything is well again."""

Fault = Callable[[Stack], None]


def _nothing(_stack: Stack) -> None:
    """A fault that is over at once."""


def _disk_alarm(stack: Stack) -> None:
    stack.rabbit.ctl("set_disk_free_limit", "1000000GB")


def _disk_well(stack: Stack) -> None:
    stack.rabbit.ctl("set_disk_free_limit", "50MB")


def _delete_queue(stack: Stack) -> None:
    """Of hints. What lies in a subscriber's queue goes with it, and cannot come again."""
    stack.rabbit.ctl("delete_queue", JOBS)


def _queue_is_back(stack: Stack) -> None:
    """Whoever has missed it has declared it again."""
    eventually(lambda: JOBS in stack.rabbit.ctl("list_queues", "-q", "name").split(), BACK)


def _end_sessions(stack: Stack) -> None:
    """Those of all roles."""
    others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
    stack.postgres.ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}")


def _end_sessions_often(stack: Stack) -> None:
    for _ in range(5):
        _end_sessions(stack)
        time.sleep(0.2)


def _lock(database: str) -> Fault:
    def lock(stack: Stack) -> None:
        stack.postgres.ask(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        stack.postgres.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    return lock


def _unlock(database: str) -> Fault:
    return lambda stack: stack.postgres.ask(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")


def _kill_all(stack: Stack) -> None:
    for server in (stack.postgres, stack.rabbit, stack.redis):
        server.kill()


def _start_all(stack: Stack) -> None:
    for server in (stack.postgres, stack.rabbit, stack.redis):
        server.start()


BEARABLE: dict[str, tuple[Fault, Fault]] = {
    "RabbitMQ stopped": (lambda stack: stack.rabbit.stop(), lambda stack: stack.rabbit.start()),
    "RabbitMQ paused": (lambda stack: stack.rabbit.pause(), lambda stack: stack.rabbit.resume()),
    "RabbitMQ killed": (lambda stack: stack.rabbit.kill(), lambda stack: stack.rabbit.start()),
    "RabbitMQ's disk full": (_disk_alarm, _disk_well),
    "RabbitMQ's queue deleted": (_delete_queue, _queue_is_back),
    "Redis flushed": (lambda stack: stack.redis.flush(), _nothing),
    "Redis stopped": (lambda stack: stack.redis.stop(), lambda stack: stack.redis.start()),
    "Redis killed": (lambda stack: stack.redis.kill(), lambda stack: stack.redis.start()),
    "Redis paused": (lambda stack: stack.redis.pause(), lambda stack: stack.redis.resume()),
    "the database of notify away": (_lock("notify"), _unlock("notify")),
}
"""What costs no upload, and its end."""

REFUSING: dict[str, tuple[Fault, Fault]] = {
    "PostgreSQL stopped": (lambda stack: stack.postgres.stop(), lambda stack: stack.postgres.start()),
    "PostgreSQL killed": (lambda stack: stack.postgres.kill(), lambda stack: stack.postgres.start()),
    "PostgreSQL, RabbitMQ and Redis killed": (_kill_all, _start_all),
    "the database of auth away": (_lock("auth"), _unlock("auth")),
    "the database of processing away": (_lock("processing"), _unlock("processing")),
    "PostgreSQL's sessions ended": (_end_sessions_often, _nothing),
}
"""Without it nothing can be promised; an upload is asked to come again. What auth said of a session is remembered for a
minute, so that a short while without its database costs nothing."""


ROWS = {
    "RabbitMQ stopped": 13,
    "RabbitMQ killed": 13,
    "RabbitMQ paused": 14,
    "RabbitMQ's disk full": 15,
    "RabbitMQ's queue deleted": 16,
    "PostgreSQL's sessions ended": 19,
    "PostgreSQL stopped": 20,
    "PostgreSQL killed": 20,
    "PostgreSQL, RabbitMQ and Redis killed": 20,
    "Redis stopped": 22,
    "Redis killed": 22,
    "Redis paused": 22,
    "Redis flushed": 23,
}
"""In the table of faults, where they are in it."""


def marked(faults: Iterable[str]) -> list[ParameterSet]:
    return [pytest.param(fault, marks=list(_marks(fault))) for fault in faults]


def _marks(fault: str) -> Iterator[pytest.MarkDecorator]:
    if fault in ROWS:
        yield pytest.mark.fault(ROWS[fault], fault)
    if "killed" in fault:  # to those who use it, much like one that is stopped
        yield pytest.mark.lengthy


@pytest.mark.parametrize("fault", marked(BEARABLE))
def test_uploads_are_taken_all_the_while(
    stack: Stack, ana: User, clip: Path, logs: Logs, observed: Observed, fault: str
) -> None:
    with uploading(ana, stack.url, clip) as uploads, _broken(stack, uploads, observed, *BEARABLE[fault]):
        uploads.wait_for_more(3)
    print(f"\n{fault}: {dict(uploads.statuses())}, slowest {_slowest(uploads):.2f} s", end="")
    assert set(uploads.statuses()) == {201}
    assert _slowest(uploads) < 10
    _recovers(stack, uploads, logs, observed)


@pytest.mark.parametrize("fault", marked(REFUSING))
def test_uploads_are_refused_politely(
    stack: Stack, ana: User, clip: Path, logs: Logs, observed: Observed, fault: str
) -> None:
    with uploading(ana, stack.url, clip) as uploads, _broken(stack, uploads, observed, *REFUSING[fault]):
        pass
    print(f"\n{fault}: {dict(uploads.statuses())}, slowest {_slowest(uploads):.2f} s", end="")
    assert set(uploads.statuses()) <= {201, 503}
    assert all(answer.retry_after for answer in uploads.answers if answer.status == 503)
    _recovers(stack, uploads, logs, observed)


@pytest.mark.lengthy  # a server that cannot be reached is left alone for half a minute
@pytest.mark.fault(25, "no SMTP server, while jobs complete")
def test_mails_come_once_their_server_is_back(
    stack: Stack, ana: User, clip: Path, logs: Logs, mail_server: MailServer, mailbox: Mailbox, observed: Observed
) -> None:
    with uploading(ana, stack.url, clip) as uploads:
        mail_server.stop()
        try:
            uploads.wait_for_more(5)
            for job_id in uploads.jobs:
                ana.completed(job_id)
            assert len(mailbox.of(ana.email)) < len(uploads.jobs)
        finally:
            mail_server.start()
    with observed.recovery():
        all_end_once(uploads, logs, 120)
    assert len(mailbox.of(ana.email)) == len(uploads.jobs)
    observed.says(f"{len(uploads.jobs)} jobs completed; one mail of each came afterwards")


@contextmanager
def _broken(stack: Stack, uploads: Uploads, observed: Observed, begin: Fault, end: Fault) -> Iterator[None]:
    """While uploads come; soon afterwards they are taken again, and all is well."""
    uploads.wait_for_more(2)
    begin(stack)
    try:
        ends = time.monotonic() + SECONDS
        yield
        time.sleep(max(0.0, ends - time.monotonic()))  # the length of the fault, not a wait for something
    finally:
        end(stack)
    with observed.recovery(within=BACK):
        uploads.wait_for_more(2)
        eventually(lambda: not sick(stack.of("gateway")[0]), 60)


def _slowest(uploads: Uploads) -> float:
    return max(answer.seconds for answer in uploads.answers)


def _recovers(stack: Stack, uploads: Uploads, logs: Logs, observed: Observed) -> None:
    with observed.recovery():
        all_end_once(uploads, logs)
    statuses = ", ".join(f"{status}: {count}" for status, count in uploads.statuses().items())
    observed.says(f"uploads {statuses}, slowest {_slowest(uploads):.1f} s; all jobs ended once")
