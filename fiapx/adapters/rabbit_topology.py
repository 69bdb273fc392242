"""The exchanges and queues. Whoever connects declares them all, so that nothing is lost before its subscriber starts.

The broker refuses a queue whose arguments have changed: give it another name then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from pika.adapters.blocking_connection import BlockingChannel

from fiapx.core.events import JOB_QUEUED

EVENTS: Final = "fiapx.events"
JOBS: Final = "fiapx.jobs"
DEAD: Final = "fiapx.dead"
LADDER: Final[Mapping[str, float]] = {"10s": 10.0, "60s": 60.0, "10m": 600.0}


def retry(rung: str) -> str:
    """The name of a rung's exchange and queue."""
    return f"fiapx.retry.v2.{rung}"


def queue_of(subscriber: str) -> str:
    """Where a subscriber's events wait for it."""
    return f"fiapx.{subscriber}"


@dataclass(frozen=True)
class Topology:
    """`ladder` has the seconds until a failed delivery comes again, by the name of the rung; `subscribers` the types of
    events that each gets."""

    ladder: Mapping[str, float] = field(default_factory=lambda: LADDER)
    subscribers: Mapping[str, Collection[str]] = field(default_factory=dict)

    def declare(self, channel: BlockingChannel) -> None:
        """What all share. A rung keeps the routing key, the name of the queue to which the message returns."""
        channel.exchange_declare(EVENTS, "topic", durable=True)
        channel.exchange_declare(DEAD, "fanout", durable=True)
        channel.queue_declare(DEAD, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(DEAD, DEAD)
        for rung, seconds in self.ladder.items():
            name = retry(rung)
            channel.exchange_declare(name, "fanout", durable=True)
            ttl = {"x-message-ttl": int(seconds * 1000)}
            channel.queue_declare(name, durable=True, arguments=_lossless("") | ttl)
            channel.queue_bind(name, name)
        declare_queue(channel, JOBS, {JOB_QUEUED})
        for subscriber, types in self.subscribers.items():
            declare_queue(channel, queue_of(subscriber), types)


def declare_queue(channel: BlockingChannel, name: str, types: Collection[str]) -> None:
    """A queue that loses nothing: replicated, and what it gives up on goes to the dead letters."""
    channel.queue_declare(name, durable=True, arguments=_lossless(DEAD) | {"x-delivery-limit": 20})
    for type_ in types:
        channel.queue_bind(name, EVENTS, type_)


def _lossless(exchange: str) -> dict[str, object]:
    """A quorum queue whose dead letters are kept until this exchange has them: a classic queue drops what it passes on
    while the next queue has no leader yet, as after a restart of the broker."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
