"""The Bus port, for every adapter."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from fiapx.adapters.bus_memory import MemoryBus
from fiapx.adapters.bus_rabbit import RabbitBus
from fiapx.adapters.rabbit_topology import Topology
from fiapx.core.errors import Unavailable
from fiapx.core.events import JOB_COMPLETED, JOB_FAILED, JOB_QUEUED, Event
from fiapx.core.ports import Bus
from scripts.servers.rabbitmq import PrivateRabbit
from tests.processing_kit import eventually
from tests.rabbit import forget_messages

TOPOLOGY = Topology(
    ladder={"0s": 0.1},
    subscribers={
        "first": [JOB_COMPLETED, JOB_FAILED],
        "second": [JOB_FAILED],
        "fragile": [JOB_COMPLETED],
        "robust": [JOB_COMPLETED],
    },
)


@pytest.fixture(params=["memory", "rabbitmq"])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    bus: Bus = MemoryBus()
    if request.param == "rabbitmq":
        server: PrivateRabbit = request.getfixturevalue("rabbit_server")
        forget_messages(server, TOPOLOGY)
        bus = RabbitBus(server.url, TOPOLOGY)
    yield bus
    bus.close()


def publish(bus: Bus, event: Event) -> None:
    """As a relay does: again until it is taken."""

    def taken() -> bool:
        try:
            bus.publish(event)
        except Unavailable:
            return False
        return True

    eventually(taken)


def event(type_: str, id_: str = "1") -> Event:
    return Event(id=id_, type=type_, subject="job", created_ms=0)


def test_delivers_to_every_subscriber_of_the_type(bus: Bus) -> None:
    first: list[str] = []
    second: list[str] = []
    bus.subscribe("first", TOPOLOGY.subscribers["first"], lambda event: first.append(event.type))
    bus.subscribe("second", TOPOLOGY.subscribers["second"], lambda event: second.append(event.type))
    bus.publish(event(JOB_COMPLETED))
    bus.publish(event(JOB_FAILED))
    eventually(lambda: first == [JOB_COMPLETED, JOB_FAILED])
    eventually(lambda: second == [JOB_FAILED])


def test_a_subscriber_that_fails_gets_the_event_again_and_hinders_no_other(bus: Bus) -> None:
    seen: list[str] = []
    troubles = [RuntimeError("not now")]

    def fragile(_: Event) -> None:
        if troubles:
            raise troubles.pop()
        seen.append("fragile")

    bus.subscribe("fragile", TOPOLOGY.subscribers["fragile"], fragile)
    bus.subscribe("robust", TOPOLOGY.subscribers["robust"], lambda _: seen.append("robust"))
    publish(bus, event(JOB_COMPLETED))
    eventually(lambda: {"fragile", "robust"} <= set(seen))
    assert not troubles


def test_a_closed_bus_takes_nothing(bus: Bus) -> None:
    bus.check()
    bus.close()
    with pytest.raises(Unavailable):
        bus.publish(event(JOB_COMPLETED))
    with pytest.raises(Unavailable):
        bus.check()


def test_queued_work_wakes_a_waiting_worker(bus: Bus) -> None:
    timer = threading.Timer(0.05, lambda: bus.publish(event(JOB_QUEUED)))
    timer.start()
    started = time.monotonic()
    assert bus.wait_for_work(10)
    assert time.monotonic() - started < 5
    timer.join()


def test_work_that_came_before_the_wait_is_not_missed(bus: Bus) -> None:
    bus.publish(event(JOB_QUEUED))
    assert bus.wait_for_work(10)


def test_waiting_ends_without_work(bus: Bus) -> None:
    bus.publish(event(JOB_FAILED))
    assert not bus.wait_for_work(0.01)


def test_close_wakes_everyone(bus: Bus) -> None:
    woken = threading.Barrier(4)

    def wait() -> None:
        bus.wait_for_work(60)
        woken.wait(5)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    bus.close()
    woken.wait(5)
    for thread in threads:
        thread.join()
