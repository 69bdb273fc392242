"""`fiapx dead` as an operator uses it, on a real broker; and `fiapx config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fiapx.adapters.bus_rabbit import RabbitBus
from fiapx.adapters.rabbit_topology import DEAD, JOBS, Topology
from fiapx.core.events import JOB_QUEUED, Event
from scripts.servers.rabbitmq import PrivateRabbit
from tests.e2e.kit import run
from tests.processing_kit import eventually
from tests.rabbit import forget_messages, rabbit_channel

GARBAGE = b"no event, \xff\x1b[31m at all"


def fiapx(folder: Path, server: PrivateRabbit, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What the command tells as JSON."""
    done = run(folder, *arguments, "--json", environ={"FIAPX_RABBITMQ_URL": server.url})
    assert done.returncode == code, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_garbage_is_listed_shown_and_sent_again(tmp_path: Path, rabbit_server: PrivateRabbit) -> None:
    forget_messages(rabbit_server, Topology())
    event = Event(id="event-1", type=JOB_QUEUED, subject="job", created_ms=0)
    bus = RabbitBus(rabbit_server.url, Topology())
    try:
        with rabbit_channel(rabbit_server) as channel:
            channel.basic_publish("", JOBS, GARBAGE)
        eventually(lambda: bus.wait_for_work(0.1) or len(_letters(tmp_path, rabbit_server)) == 1, 60)
    finally:
        bus.close()
    _give_up(rabbit_server, event)
    garbage, known = _letters(tmp_path, rabbit_server)
    assert (garbage["id"], garbage["queue"], known["id"], known["queue"]) == ("", JOBS, "event-1", JOBS)
    assert "\x1b" not in run(tmp_path, "dead", "list", environ={"FIAPX_RABBITMQ_URL": rabbit_server.url}).stdout
    shown = fiapx(tmp_path, rabbit_server, "dead", "show", "event-1")
    assert Event.model_validate_json(shown["content"]) == event
    for command in ("show", "requeue"):
        told = fiapx(tmp_path, rabbit_server, "dead", command, "event-2", code=1)
        assert told["error"]["code"] == "not_found"
    assert fiapx(tmp_path, rabbit_server, "dead", "requeue", "event-1") == {"requeued": 1}
    assert [letter["id"] for letter in _letters(tmp_path, rabbit_server)] == [""]
    assert fiapx(tmp_path, rabbit_server, "dead", "requeue") == {"requeued": 1}
    assert _letters(tmp_path, rabbit_server) == []
    with rabbit_channel(rabbit_server) as channel:
        bodies = [channel.basic_get(JOBS, auto_ack=True)[2] for _ in range(2)]
    assert bodies == [event.model_dump_json().encode(), GARBAGE]


def _letters(folder: Path, server: PrivateRabbit) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = fiapx(folder, server, "dead", "list")["letters"]
    return letters


def _give_up(server: PrivateRabbit, event: Event) -> None:
    """As the broker does at the delivery limit, or a subscriber at the ladder's end."""
    bus = RabbitBus(server.url, Topology())
    try:
        bus.publish(event)
    finally:
        bus.close()
    with rabbit_channel(server) as channel:
        method, *_ = channel.basic_get(JOBS)
        channel.basic_reject(method.delivery_tag, requeue=False)
        eventually(lambda: channel.queue_declare(DEAD, passive=True).method.message_count == 2)


def test_without_a_broker_that_is_said(tmp_path: Path) -> None:
    unset = run(tmp_path, "dead", "list")
    assert (unset.returncode, "FIAPX_RABBITMQ_URL is not set" in unset.stderr) == (2, True)
    away = run(tmp_path, "dead", "list", environ={"FIAPX_RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/"})
    assert (away.returncode, away.stdout) == (5, "")
    assert "broker does not answer" in away.stderr


def test_config_shows_what_is_in_force_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("plum-orbit\n")
    (tmp_path / "settings.toml").write_text("lease = 40\nheartbeat = 7\nautoscale = [1, 4]\n")
    environ = {
        "FIAPX_SETTINGS": str(tmp_path / "settings.toml"),
        "FIAPX_SMTP_PASSWORD_FILE": str(tmp_path / "password"),
        "FIAPX_RABBITMQ_URL": "amqp://guest:plum-orbit@127.0.0.1/",
        "FIAPX_HEARTBEAT": "8",
        "FIAPX_AUTH_URLS": "http://a:1, http://b:2",
    }
    done = run(tmp_path, "config", "--json", environ=environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    expected = {
        "FIAPX_LEASE": 40.0,
        "FIAPX_HEARTBEAT": 8.0,
        "FIAPX_AUTOSCALE": "1,4",
        "FIAPX_AUTH_URLS": "http://a:1,http://b:2",
        "FIAPX_SMTP_PASSWORD": "********",
        "FIAPX_RABBITMQ_URL": "********",
        "FIAPX_REDIS_URL": None,
    }
    assert expected.items() <= told["settings"].items()
    assert told["file"] == environ["FIAPX_SETTINGS"]
    text = run(tmp_path, "config", environ=environ)
    assert "FIAPX_AUTOSCALE=1,4\n" in text.stdout
    assert "plum-orbit" not in done.stdout + done.stderr + text.stdout + text.stderr
