"""Stores and mail servers that are cut off, silent, or away: what they cost, and how they are found again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import Engine, select

from fiapx.adapters.mail import SmtpMailer
from fiapx.adapters.storage_s3 import S3Storage
from fiapx.core.breaker import State
from fiapx.core.circuit import Circuit, Resting
from fiapx.core.errors import NotFound, Unavailable
from fiapx.notify.notifier import Notifier
from fiapx.notify.render import Renderer
from fiapx.notify.tables import deliveries
from scripts.servers.process import free_port
from tests.api.upstreams import blackhole
from tests.contract.test_mail import Inbox, message
from tests.postgres import Databases
from tests.processing_kit import Processing, eventually, processing
from tests.s3 import s3_storage
from tests.unit.cli_support import Cutter
from tests.unit.test_notify import event, make_due
from tests.unit.test_worker import Engine as Extraction
from tests.unit.test_worker import engine as extraction
from tests.unit.test_worker import working

__all__ = ["extraction"]

CUT = 0
"""So many bytes of an answer come through."""
HALF = 2 * 1024 * 1024
"""Bytes of a body that come through; those without one do."""


@pytest.fixture
def wire(s3_server: str) -> Cutter:
    """Between us and the store; moto takes one connection for each request."""
    return Cutter(s3_server)


@pytest.fixture
def states() -> list[State]:
    """What the circuit has been through."""
    return []


@pytest.fixture
def circuit(states: list[State]) -> Circuit:
    return Circuit("object store", rest=0.5, on_change=lambda circuit: states.append(circuit.state))


@pytest.fixture
def store(s3_server: str, wire: Cutter, circuit: Circuit, tmp_path: Path) -> Iterator[S3Storage]:
    with wire.open() as address:
        yield s3_storage(s3_server, tmp_path / "scratch", through=address, timeout=0.5, circuit=circuit)


def put(store: S3Storage, key: str, content: bytes = b"content") -> None:
    with store.create(key) as writer:
        writer.write(content)
        writer.commit()


def cut(wire: Cutter) -> None:
    wire.down[:] = [CUT] * 10_000


def break_down(wire: Cutter) -> None:
    wire.answers[:] = [b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"] * 10_000


def mend(wire: Cutter) -> None:
    wire.down.clear()
    wire.answers.clear()


def read(store: S3Storage, key: str) -> bytes:
    return b"".join(store.read(key))


def readable(store: S3Storage, key: str) -> bool:
    try:
        return bool(read(store, key))
    except Unavailable:
        return False


def test_a_store_that_is_cut_off_is_left_alone_and_found_again(
    store: S3Storage, wire: Cutter, circuit: Circuit
) -> None:
    put(store, "videos/a")
    cut(wire)
    for _ in range(3):
        with pytest.raises(Unavailable):
            read(store, "videos/a")
    assert circuit.state is State.OPEN
    asked = wire.connections
    for refused in (
        lambda: read(store, "videos/a"),
        lambda: store.create("videos/b"),
        lambda: store.delete("videos/a"),
    ):
        with pytest.raises(Resting):
            refused()
    assert wire.connections == asked
    mend(wire)
    eventually(lambda: readable(store, "videos/a"))
    assert store.resting() == 0


def test_what_is_complete_is_sent_even_so(store: S3Storage, wire: Cutter, circuit: Circuit) -> None:
    """The work is done, or gigabytes have come: it may be just in time."""
    put(store, "videos/a")
    with store.create("jobs/j/1.zip") as writer:
        writer.write(b"an hour of work")
        cut(wire)
        for _ in range(3):
            with pytest.raises(Unavailable):
                store.delete("videos/a")
        assert store.resting()
        mend(wire)
        writer.commit()
    eventually(lambda: readable(store, "jobs/j/1.zip"))


@pytest.mark.fault(24, "a store that never answers")
def test_a_silent_store_costs_its_timeout(tmp_path: Path) -> None:
    with blackhole() as address:
        silent = S3Storage("b", endpoint=address, access_key="k", secret_key="s", scratch=tmp_path, timeout=0.3)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            silent.open("videos/a")
        assert time.monotonic() - began < 10


def test_an_object_that_is_replaced_is_never_mixed_with_the_new_one(s3_server: str, tmp_path: Path) -> None:
    size = 9 * 1024 * 1024  # more than is asked for at a time
    store = s3_storage(s3_server, tmp_path / "scratch")
    put(store, "videos/a", b"a" * size)
    chunks = store.read("videos/a")
    assert next(chunks).strip(b"a") == b""
    put(store, "videos/a", b"b" * size)
    with pytest.raises(NotFound, match="replaced"):
        list(chunks)
    assert read(store, "videos/a") == b"b" * size


@pytest.mark.fault(24, "half a body, on its way to the store")
def test_half_an_object_never_shows(store: S3Storage, wire: Cutter) -> None:
    content = os.urandom(9 * 1024 * 1024)  # more than one part
    wire.up[:] = [HALF] * 10_000
    with pytest.raises(Unavailable):
        put(store, "videos/a", content)
    wire.up.clear()
    eventually(lambda: not store.resting())
    assert list(store.list("")) == []
    with pytest.raises(NotFound):
        read(store, "videos/a")
    put(store, "videos/a", content)
    assert read(store, "videos/a") == content


@pytest.mark.fault(24, "half a body, on its way from the store")
def test_half_an_object_is_not_taken_for_all_of_it(store: S3Storage, wire: Cutter) -> None:
    content = os.urandom(9 * 1024 * 1024)
    put(store, "videos/a", content)
    wire.down[:] = [None, HALF, HALF, HALF, HALF]
    received = bytearray()
    try:
        for chunk in store.read("videos/a"):
            received += chunk
    except Unavailable:
        assert content.startswith(received)
        assert len(received) < len(content)
    else:
        assert received == content  # it went on where it was cut
    wire.down.clear()
    eventually(lambda: not store.resting())
    assert read(store, "videos/a") == content


@pytest.fixture
def service(store: S3Storage, tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path, storage=store) as service:
        yield service


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(cut, marks=pytest.mark.fault(24, "every answer of the store cut")),
        pytest.param(break_down, marks=pytest.mark.fault(24, "a store that answers 500")),
    ],
)
def test_no_job_is_lost_to_a_store_that_is_away(
    harm: Callable[[Cutter], None],
    service: Processing,
    wire: Cutter,
    states: list[State],
    extraction: Extraction,
) -> None:
    """Not even where the outage outlasts three attempts: the worker waits, instead of failing one job after another."""
    jobs = [service.queue_job() for _ in range(5)]
    harm(wire)
    with working(service, concurrency=2):
        eventually(lambda: states.count(State.OPEN) == 3, 60)  # tried again twice, in vain
        assert {service.row(job_id).state for job_id in jobs} <= {"queued", "running"}
        mend(wire)
        eventually(lambda: {service.row(job_id).state for job_id in jobs} == {"completed"}, 30)


@pytest.mark.fault(25, "no SMTP server")
def test_mails_wait_for_a_server_that_is_away(databases: Databases) -> None:
    engine, port = databases("notify"), free_port()
    mailer = SmtpMailer("127.0.0.1", port, None, None, "none", 5, Circuit("mail server", rest=0.5))
    renderer = Renderer(public_url="http://127.0.0.1", mail_from="fiapx <no-reply@example.com>")
    notifier = Notifier(engine, mailer, renderer, lease=300)
    for number in range(5):
        notifier.handle(event(id_=f"e{number}"))
    while notifier.deliver_due():
        continue
    assert mailer.resting()
    assert sorted(_attempts(engine)) == [0, 0, 1, 1, 1]  # no more than it took to find out
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        make_due(engine)
        eventually(lambda: notifier.deliver_due() == 0 and len(inbox.mails) == 5)
    finally:
        controller.stop()
    assert sorted(_attempts(engine)) == [1, 1, 2, 2, 2]


def _attempts(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(deliveries.c.attempts)))


def test_what_a_server_says_of_one_mail_stops_no_other() -> None:
    inbox, circuit = Inbox(), Circuit("mail server")
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        mailer = SmtpMailer("127.0.0.1", controller.port, None, None, "none", 5, circuit)
        inbox.answers = ["451 later"] * 5
        for _ in range(5):
            with pytest.raises(Unavailable, match="later"):
                mailer.send(message())
        mailer.send(message())
    finally:
        controller.stop()
    assert circuit.state is State.CLOSED
