"""What RabbitMQ adds to the contract of the Bus port, with a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fiapx.adapters import rabbit_dead
from fiapx.adapters.bus_rabbit import RabbitBus
from fiapx.adapters.rabbit_connection import connect
from fiapx.adapters.rabbit_dead import DeadLetters
from fiapx.adapters.rabbit_topology import DEAD, Topology, retry
from fiapx.core.errors import Unavailable
from fiapx.core.events import JOB_COMPLETED, JOB_FAILED, JOB_QUEUED, Event
from scripts.servers.rabbitmq import PrivateRabbit
from tests.faults.table import Observed
from tests.rabbit import rabbit_channel, ready_messages

QUICK = Topology({"0.1s": 0.1, "0.2s": 0.2})


@pytest.fixture
def broker(rabbit_server: PrivateRabbit) -> PrivateRabbit:
    return rabbit_server


@pytest.fixture
def bus(broker: PrivateRabbit) -> Iterator[RabbitBus]:
    bus = RabbitBus(broker.url, QUICK, deadline=3.0)
    yield bus
    bus.close()


def event(type_: str, id_: str = "1") -> Event:
    return Event(id=id_, type=type_, subject="job", created_ms=0)


def eventually(true: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
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


def test_the_broker_tells_its_version(bus: RabbitBus, broker: PrivateRabbit) -> None:
    assert bus.version() == broker.ctl("version").strip()


def test_a_paused_broker_does_not_hold_the_publisher(bus: RabbitBus, broker: PrivateRabbit) -> None:
    bus.publish(event(JOB_QUEUED))
    broker.pause()
    try:
        with pytest.raises(Unavailable):
            _publish_many(bus)
    finally:
        broker.resume()
    bus.publish(event(JOB_QUEUED, "3"))
    bus.check()


def _publish_many(bus: RabbitBus) -> None:
    """The signal that pauses the broker may arrive a moment late, and the first event be confirmed still."""
    for number in range(100):
        bus.publish(event(JOB_QUEUED, f"2.{number}"))


def test_a_broker_that_pauses_while_queues_are_declared_does_not_either(broker: PrivateRabbit) -> None:
    class Pausing(Topology):
        def declare(self, channel: BlockingChannel) -> None:
            _paused(broker)
            super().declare(channel)

    bus = RabbitBus(broker.url, Pausing(QUICK.ladder), deadline=1.0)
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable):
            bus.publish(event(JOB_QUEUED))
        bus.close()
    finally:
        broker.resume()
    assert time.monotonic() - began < 10


def test_a_check_ends_even_if_the_broker_pauses_meanwhile(
    bus: RabbitBus, broker: PrivateRabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pausing(url: str, patience: float) -> pika.BlockingConnection:
        connection = connect(url, patience)
        _paused(broker)
        return connection

    monkeypatch.setattr("fiapx.adapters.rabbit_connection.connect", pausing)
    checking = threading.Thread(target=bus.check, daemon=True)
    try:
        checking.start()
        checking.join(10)
        assert not checking.is_alive()
    finally:
        broker.resume()


def test_a_check_of_a_paused_broker_fails_within_two_seconds(bus: RabbitBus, broker: PrivateRabbit) -> None:
    _paused(broker)
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            bus.check()
        assert time.monotonic() - began < 4  # its own bound, and some for a busy machine
    finally:
        broker.resume()


def test_who_gets_no_answer_asks_anew(broker: PrivateRabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Silent(Topology):
        """The broker lives, and at first says nothing of its queues."""

        def declare(self, channel: BlockingChannel) -> None:
            asked.append(time.monotonic())
            if len(asked) == 1:
                channel.connection.process_data_events(60)
            super().declare(channel)

    monkeypatch.setattr("fiapx.adapters.rabbit_thread.PATIENCE", 0.5)
    bus, seen = RabbitBus(broker.url, Silent(QUICK.ladder)), threading.Event()
    try:
        bus.subscribe("asking", {JOB_COMPLETED}, lambda _event: seen.set())
        eventually(lambda: "fiapx.asking" in broker.ctl("list_bindings", "-q", "destination_name").split())
        bus.publish(event(JOB_COMPLETED))
        assert seen.wait(20)
    finally:
        bus.close()


def test_each_outage_is_met_as_promptly_as_the_first(bus: RabbitBus, broker: PrivateRabbit) -> None:
    """Who came back has forgotten how long the broker was away before."""
    seen: set[str] = set()
    bus.subscribe("prompt", {JOB_COMPLETED}, lambda event: seen.add(event.id))
    eventually(lambda: "fiapx.prompt" in broker.ctl("list_bindings", "-q", "destination_name").split())
    (consumer,) = bus._consumers
    pauses: list[float | None] = []
    wait = consumer.closed.wait

    def noted(seconds: float | None = None) -> bool:
        pauses.append(seconds)
        return wait(seconds)

    consumer.closed.wait = noted  # type: ignore[assignment,method-assign]
    for number in range(3):
        eventually(partial(_published, bus, event(JOB_COMPLETED, str(number))))
        eventually(partial(_knows, seen, str(number)))
        broker.ctl("close_all_connections", "an outage")
    eventually(lambda: len(pauses) >= 3)
    assert pauses[:3] == [pauses[0]] * 3


def _knows(seen: set[str], id_: str) -> bool:
    return id_ in seen


def _paused(broker: PrivateRabbit) -> None:
    """Signals arrive a moment late: return once it is silent."""
    broker.pause()
    eventually(broker.is_silent)


def test_events_wait_for_a_subscriber_that_has_not_started_yet(broker: PrivateRabbit) -> None:
    topology = Topology(QUICK.ladder, {"unborn": [JOB_FAILED]})
    first, late = RabbitBus(broker.url, topology), RabbitBus(broker.url, topology)
    seen: list[str] = []
    try:
        first.publish(event(JOB_FAILED, "early"))
        late.subscribe("unborn", topology.subscribers["unborn"], lambda event: seen.append(event.id))
        eventually(lambda: seen == ["early"])
    finally:
        first.close()
        late.close()


def test_a_queue_with_other_arguments_is_named_with_what_to_do(broker: PrivateRabbit) -> None:
    subscribers = {"changed": [JOB_COMPLETED]}
    with rabbit_channel(broker) as channel:
        channel.queue_declare("fiapx.changed", durable=True)
    bus = RabbitBus(broker.url, Topology({}, subscribers))
    try:
        with pytest.raises(Unavailable, match=r"inequivalent arg .*'fiapx\.changed'") as refused:
            bus.publish(event(JOB_COMPLETED))
        assert "rabbitmqctl delete_queue" in (refused.value.hint or "")
        with rabbit_channel(broker) as channel:
            channel.queue_delete("fiapx.changed")
        bus.publish(event(JOB_COMPLETED))
    finally:
        bus.close()


def test_the_arguments_of_queues_are_those_of_their_names() -> None:
    """Brokers have these queues already: with other arguments they need other names."""
    declared: dict[str, object] = {}

    class Notes:
        def queue_declare(self, name: str, **arguments: object) -> None:
            declared[name] = arguments

        def __getattr__(self, _name: str) -> Callable[..., None]:
            return lambda *_, **__: None

    Topology(subscribers={"notify": []}).declare(cast("BlockingChannel", Notes()))
    lossless = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "fiapx.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    again = {name: value for name, value in lossless.items() if name != "x-delivery-limit"}
    again["x-dead-letter-exchange"] = ""
    rungs = {"fiapx.retry.v2.10s": 10_000, "fiapx.retry.v2.60s": 60_000, "fiapx.retry.v2.10m": 600_000}
    assert declared == {
        "fiapx.jobs": {"durable": True, "arguments": lossless},
        "fiapx.notify": {"durable": True, "arguments": lossless},
        "fiapx.dead": {"durable": True, "arguments": {"x-queue-type": "quorum"}},
        **{name: {"durable": True, "arguments": again | {"x-message-ttl": ttl}} for name, ttl in rungs.items()},
    }


def test_each_message_wakes_one_of_those_who_wait(bus: RabbitBus, broker: PrivateRabbit) -> None:
    other = RabbitBus(broker.url, QUICK)
    while bus.wait_for_work(0.5):  # left by other tests
        continue
    woken: list[bool] = []
    waiting = [threading.Thread(target=lambda own=own: woken.append(own.wait_for_work(20))) for own in (bus, other)]
    try:
        for thread in waiting:
            thread.start()
        bus.publish(event(JOB_QUEUED, "1"))
        bus.publish(event(JOB_QUEUED, "2"))
        for thread in waiting:
            thread.join()
        assert woken == [True, True]
        assert not bus.wait_for_work(0.2)
    finally:
        other.close()


def test_work_that_came_before_the_wait_is_found(bus: RabbitBus) -> None:
    bus.publish(event(JOB_QUEUED))
    assert bus.wait_for_work(20)


def test_what_comes_when_nobody_waits_any_more_stays_for_the_next(bus: RabbitBus, broker: PrivateRabbit) -> None:
    while bus.wait_for_work(0.5):
        continue
    dead = ready_messages(broker, DEAD)
    for _ in range(5):
        bus.wait_for_work(0.1)
        bus.publish(event(JOB_QUEUED))
        assert bus.wait_for_work(20)
    assert ready_messages(broker, DEAD) == dead


def test_closing_wakes_those_who_wait(broker: PrivateRabbit) -> None:
    bus = RabbitBus(broker.url, QUICK)
    threading.Timer(0.5, bus.close).start()
    assert not bus.wait_for_work(30)


def test_nothing_is_lost_in_a_restart(bus: RabbitBus, broker: PrivateRabbit) -> None:
    seen: set[str] = set()
    bus.subscribe("restart", {JOB_COMPLETED}, lambda event: seen.add(event.id))
    eventually(lambda: "fiapx.restart" in broker.ctl("list_bindings", "-q", "destination_name").split())
    for number in range(200):
        if number == 100:
            broker.stop()
            broker.start()
        eventually(partial(_published, bus, event(JOB_COMPLETED, str(number))))
    eventually(lambda: len(seen) == 200, 30)


def test_what_waits_for_its_next_try_survives_a_broker_that_is_killed(broker: PrivateRabbit) -> None:
    """The wait ends while the broker is away; when it is back, the queue to return to has no leader yet."""
    tries: list[str] = []

    def handler(event: Event) -> None:
        tries.append(event.id)
        if len(tries) <= 5:
            raise Unavailable

    bus = RabbitBus(broker.url, Topology({"8s": 8.0}), deadline=3.0)
    try:
        bus.subscribe("away", {JOB_COMPLETED}, handler)
        eventually(lambda: "fiapx.away" in broker.ctl("list_bindings", "-q", "destination_name").split())
        time.sleep(6)  # a broker that is killed sooner may have made a quorum queue without its log
        for number in range(5):
            bus.publish(event(JOB_COMPLETED, str(number)))
        eventually(lambda: ready_messages(broker, retry("8s")) == 5)
        broker.kill()
        time.sleep(8)
        broker.start()
        eventually(lambda: set(tries[5:]) == set(tries[:5]), 30)
    finally:
        bus.close()


def _published(bus: RabbitBus, event: Event) -> bool:
    try:
        bus.publish(event)
    except Unavailable:
        return False
    return True


def test_what_is_no_event_is_a_dead_letter(bus: RabbitBus, broker: PrivateRabbit) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    channel = connection.channel()
    try:
        bus.publish(event(JOB_QUEUED))
        channel.queue_purge("fiapx.dead")
        channel.basic_publish("", "fiapx.jobs", b"garbage")
        while bus.wait_for_work(1):
            continue
        eventually(lambda: channel.basic_get("fiapx.dead", auto_ack=True)[2] == b"garbage")
    finally:
        connection.close()


@pytest.mark.fault(16, "the queue deleted between two messages")
def test_a_queue_that_was_deleted_is_made_again(bus: RabbitBus, broker: PrivateRabbit) -> None:
    bus.publish(event(JOB_QUEUED))
    broker.ctl("delete_queue", "fiapx.jobs")
    eventually(partial(_published, bus, event(JOB_QUEUED, "2")))
    assert bus.wait_for_work(20)


@pytest.mark.parametrize("away", [Unavailable(), OperationalError("", {}, Exception("no connection")), PoolTimeout()])
def test_what_is_away_for_long_makes_no_dead_letter(bus: RabbitBus, broker: PrivateRabbit, away: Exception) -> None:
    tries: list[str] = []

    def handler(event: Event) -> None:
        tries.append(event.id)
        if len(tries) < 5:
            raise away if len(tries) < 4 else RuntimeError("a hiccup")

    bus.subscribe("patient", {JOB_COMPLETED}, handler)
    eventually(lambda: "fiapx.patient" in broker.ctl("list_bindings", "-q", "destination_name").split())
    bus.publish(event(JOB_COMPLETED, "patient-1"))
    eventually(lambda: len(tries) == 5)
    assert "patient-1" not in [letter.id for letter in DeadLetters(broker.url, QUICK).list()]


def test_the_ladder_ends_at_the_dead_letters_which_can_be_sent_again(bus: RabbitBus, broker: PrivateRabbit) -> None:
    well: list[bool] = []
    seen: list[str] = []

    def handler(event: Event) -> None:
        if not well:
            raise RuntimeError("never today")
        seen.append(event.id)

    bus.subscribe("hopeless", {JOB_COMPLETED}, handler)
    eventually(lambda: "fiapx.hopeless" in broker.ctl("list_bindings", "-q", "destination_name").split())
    bus.publish(event(JOB_COMPLETED, "hopeless-1"))
    letters = DeadLetters(broker.url, QUICK)
    eventually(lambda: "hopeless-1" in [letter.id for letter in letters.list()])
    (letter,) = [letter for letter in letters.list() if letter.id == "hopeless-1"]
    assert (letter.queue, letter.attempts) == ("fiapx.hopeless", 3)
    assert "never today" in letter.error
    well.append(True)
    assert letters.requeue("hopeless-1") == 1
    eventually(lambda: seen == ["hopeless-1"])
    assert "hopeless-1" not in [letter.id for letter in letters.list()]


def test_dead_letters_may_be_many(bus: RabbitBus, broker: PrivateRabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are sent again take longer all together than the broker may take for one."""
    seen: set[str] = set()
    bus.subscribe("flooded", {JOB_COMPLETED}, lambda event: seen.add(event.id))
    eventually(lambda: "fiapx.flooded" in broker.ctl("list_bindings", "-q", "destination_name").split())
    letters = DeadLetters(broker.url, QUICK)
    letters.requeue()
    with rabbit_channel(broker) as channel:
        for number in range(6):
            letter = event(JOB_COMPLETED, f"flood-{number}").model_dump_json().encode()
            properties = pika.BasicProperties(headers={"x-fiapx-queue": "fiapx.flooded"})
            channel.basic_publish(DEAD, "", letter, properties)
    eventually(lambda: ready_messages(broker, DEAD) == 6)
    monkeypatch.setattr("fiapx.adapters.rabbit_dead._PATIENCE", 2.0)
    sent = rabbit_dead._sent

    def slow(*letter: Any) -> bool:
        time.sleep(0.5)
        return sent(*letter)

    monkeypatch.setattr("fiapx.adapters.rabbit_dead._sent", slow)
    assert letters.requeue() == 6
    eventually(lambda: seen == {f"flood-{number}" for number in range(6)})


@pytest.mark.parametrize("deadline", [3.0, pytest.param(10.0, marks=pytest.mark.lengthy)])
@pytest.mark.fault(14, "SIGSTOP of RabbitMQ in front of a publisher")
@pytest.mark.parametrize("connected", [True, False])
def test_publishing_to_a_paused_broker_is_given_up_in_time(
    broker: PrivateRabbit, observed: Observed, *, connected: bool, deadline: float
) -> None:
    bus = RabbitBus(broker.url, QUICK, deadline=deadline)
    try:
        if connected:
            bus.publish(event(JOB_QUEUED))
        _paused(broker)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            bus.publish(event(JOB_QUEUED, "2"))
        seconds = time.monotonic() - began
        broker.resume()
        with observed.recovery(within=20):
            eventually(partial(_published, bus, event(JOB_QUEUED, "3")))
    finally:
        broker.resume()
        bus.close()
    assert seconds < deadline + 1
    observed.says(f"given up after {seconds:.1f} s, of {deadline:.0f}")


@pytest.mark.fault(13, "SIGKILL of RabbitMQ while 200 messages wait")
def test_what_waits_survives_a_broker_that_is_killed(broker: PrivateRabbit, observed: Observed) -> None:
    topology = Topology(QUICK.ladder, {"asleep": [JOB_COMPLETED]})
    first, late = RabbitBus(broker.url, topology), RabbitBus(broker.url, topology)
    ids = [str(number) for number in range(200)]
    seen: list[str] = []
    try:
        for id_ in ids:
            first.publish(event(JOB_COMPLETED, id_))
        assert ready_messages(broker, "fiapx.asleep") == 200
        time.sleep(5)  # RabbitMQ 3.10 finds no leader for a queue that was killed in its first second
        broker.kill()
        broker.start()
        with observed.recovery(within=40):
            late.subscribe("asleep", topology.subscribers["asleep"], lambda event: seen.append(event.id))
            eventually(lambda: set(seen) == set(ids), 60)
    finally:
        first.close()
        late.close()
    observed.says(f"{len(ids)} messages handled afterwards")
