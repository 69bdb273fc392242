"""What RabbitMQ adds to the contract of the Bus port, with a real broker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from fiapx.adapters.bus_rabbit import RabbitBus
from fiapx.core.errors import Unavailable
from fiapx.core.events import JOB_FAILED, JOB_QUEUED, Event
from scripts.servers.process import ServerMissing
from scripts.servers.rabbitmq import PrivateRabbit


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    folder = tmp_path_factory.mktemp("rabbit")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    try:
        server = PrivateRabbit(folder / "data")
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def bus(broker: PrivateRabbit) -> Iterator[RabbitBus]:
    bus = RabbitBus(broker.url, ladder={"10s": 0.1, "60s": 0.2}, deadline=3.0)
    yield bus
    bus.close()


def event(type_: str, id_: str = "1") -> Event:
    return Event(id=id_, type=type_, subject="job", created_ms=0)


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failed_delivery_climbs_the_ladder_to_its_own_queue_alone(bus: RabbitBus, broker: PrivateRabbit) -> None:
    seen: list[str] = []
    tries: list[str] = []

    def fragile(event: Event) -> None:
        tries.append(event.id)
        if len(tries) < 3:
            raise RuntimeError("not now")

    bus.subscribe("first", {JOB_FAILED}, lambda event: seen.append(event.id))
    bus.subscribe("second", {JOB_FAILED}, fragile)

    def bound() -> bool:
        return {"fiapx.first", "fiapx.second"} <= set(broker.ctl("list_bindings", "-q", "destination_name").split())

    eventually(bound)
    bus.publish(event(JOB_FAILED))
    eventually(lambda: seen == ["1"] and tries == ["1"] * 3)


def test_a_paused_broker_does_not_hold_the_publisher(bus: RabbitBus, broker: PrivateRabbit) -> None:
    bus.publish(event(JOB_QUEUED))
    broker.pause()
    try:
        with pytest.raises(Unavailable):
            bus.publish(event(JOB_QUEUED, "2"))
    finally:
        broker.resume()
    bus.publish(event(JOB_QUEUED, "3"))
    bus.check()
