"""Looks at servers from outside, for an operator: can they be used, and are they new enough and set up well?

Each function closes what it has opened. Raises Unavailable for what does not answer, and UsageError for
what is too old.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pika
from redis.exceptions import RedisError
from sqlalchemy import text

from fiapx.adapters.cache_redis import connect as connect_redis
from fiapx.adapters.db import Service, open_database, pending
from fiapx.adapters.rabbit_connection import connected, cut, translated, version_of
from fiapx.adapters.rabbit_topology import Topology
from fiapx.core.errors import Unavailable
from fiapx.core.findings import Finding
from fiapx.core.text import size
from fiapx.core.versions import require

PATIENCE: Final = 2.0
"""Seconds for one step."""
_UPGRADE: Final = "Run `fiapx db upgrade`; if that refuses, this is the wrong database, or an old fiapx."
_READY: Final = "/api/v1/health/ready"


def examine_database(url: str, service: Service) -> Finding:
    """Version and schema of a service's PostgreSQL."""
    engine = open_database(url, pool_size=1, statement_timeout=PATIENCE)
    try:
        state = pending(engine, service)
        with engine.connect() as connection:
            version = str(connection.scalar(text("SHOW server_version"))).split()[0]
    finally:
        engine.dispose()
    if state:
        return Finding("error", f"PostgreSQL {version}; the database {state}", _UPGRADE)
    return Finding("ok", f"PostgreSQL {version}, schema up to date")


def examine_redis(url: str) -> Finding:
    """Version, and what it does when it is full."""
    client = connect_redis(url, PATIENCE)
    try:
        client.ping()
        facts: dict[str, Any] = client.info()
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis does not answer: {error}") from None
    finally:
        client.close()
    version, bound = str(facts["redis_version"]), int(facts.get("maxmemory", 0))
    require("Redis", version)
    if bound and facts.get("maxmemory_policy") == "noeviction":
        hint = "Set its maxmemory-policy to allkeys-lru: whatever goes is loaded or counted anew."
        return Finding("warning", f"Redis {version} refuses to remember more once {size(bound)} are full", hint)
    return Finding("ok", f"Redis {version}, {size(bound) if bound else 'unbounded'}, {facts.get('maxmemory_policy')}")


def examine_rabbit(url: str, topology: Topology) -> Finding:
    """Version, queues, and whether an alarm keeps it from taking messages."""
    blocked: list[str] = []
    with translated(), connected(url, PATIENCE) as connection:
        version = version_of(connection)
        require("RabbitMQ", version)
        connection.add_on_connection_blocked_callback(
            lambda _connection, method: blocked.append(str(method.method.reason))
        )
        channel = connection.channel()
        topology.declare(channel)
        waiting = channel.queue_declare("fiapx.dead", passive=True).method.message_count
        channel.basic_publish("", "fiapx.nobody", b"", pika.BasicProperties())  # an alarm shows itself to publishers
        connection.process_data_events(0.2)
        if blocked:
            cut(connection)  # it would not even take our leave
    if blocked:
        return Finding("error", f"RabbitMQ {version} takes no messages: {blocked[0]}", "Give it disk or memory.")
    if waiting:
        return Finding("warning", f"RabbitMQ {version}, {waiting} dead letters", "Look at them: `fiapx dead list`.")
    return Finding("ok", f"RabbitMQ {version}, all queues there")


def examine_service(url: str) -> Finding:
    """Whether one of our HTTP services is ready."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Finding("error", "that is no URL such as http://host:8001", "Correct the address.")
    try:
        answer = httpx.get(url.rstrip("/") + _READY, timeout=PATIENCE, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"It does not answer: {error}") from None
    if answer.status_code == httpx.codes.OK:
        return Finding("ok", "ready")
    return Finding("error", f"not ready ({answer.status_code}): {_reason(answer)}", f"Ask {_READY[:-5]}all there.")


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no service of ours"
