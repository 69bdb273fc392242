"""The services of the Compose file as processes: the same commands, environment, configuration and secrets.

What differs are addresses, since all of them share one machine. Where that can be had, each role runs as the image's
user on a file system of which it may write its volume alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.prometheus import PrivateAlertmanager, PrivateExporter, PrivatePrometheus
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.servers.redis import PrivateRedis
from scripts.stack import FIAPX, RoleProcess, Sink
from tests.collector import Collector, collecting
from tests.compose.composed import COMPOSE, ROLES, Document, compose

Mails = list[Any]


UID = 10001
_CONFINED = f"""
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o bind,remount,ro /
shift
# One capability is left, so that a container's user may read programs and secrets of whoever runs the tests.
exec setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs \\
    --inh-caps -all,+dac_read_search --ambient-caps -all,+dac_read_search --bounding-set -all,+dac_read_search "$@"
"""
"""Runs a command as containers do: the root cannot be written, only the folder that is named."""


def can_confine() -> bool:
    """Whether we may change what a process sees of the file system; that takes root, and not every root may."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@dataclass(frozen=True)
class Composed:
    """Everything that runs. `secrets` is the folder of what the containers would find in ``/run/secrets``."""

    secrets: Path
    roles: Mapping[str, RoleProcess]
    postgres: PrivatePostgres
    prometheus: PrivatePrometheus
    mails: Mails
    collector: Collector


class _Inbox:
    def __init__(self) -> None:
        self.mails: Mails = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 OK"


class _Addresses:
    """Where on this machine is what the Compose file names."""

    def __init__(self, secrets: Path, storage: Path) -> None:
        self.places = {"/run/secrets": str(secrets), "/var/lib/fiapx": str(storage), "0.0.0.0": "127.0.0.1"}

    def add(self, name: str, port: int, number: int) -> None:
        self.places[f"{name}:{number}"] = f"127.0.0.1:{port}"

    def __call__(self, text: str) -> str:
        for place, here in self.places.items():
            text = re.sub(rf"(?<![\w-]){re.escape(place)}(?!\d)", here, text)
        return text


@contextmanager
def running(folder: Path, sink: Sink) -> Iterator[Composed]:
    """Raises ServerMissing, ServerFailed."""
    secrets, storage = folder / "secrets", folder / "storage"
    subprocess.run([str(COMPOSE / "secrets.sh"), str(secrets)], check=True)
    here, inbox = _Addresses(secrets, storage), _Inbox()
    with ExitStack() as stack:
        mail = Controller(inbox, hostname="127.0.0.1", port=free_port())
        mail.start()
        stack.callback(mail.stop)
        here.add("mailpit", mail.port, 1025)
        collector = stack.enter_context(collecting())
        here.add("jaeger", int(collector.url.rpartition(":")[2]), 4318)
        postgres, rabbit = _servers(stack, folder, here)
        for secret in secrets.iterdir():
            secret.write_text(here(secret.read_text()))
        document = compose(GRACE="5", BACK_SUBNET="127.0.0.1", SMTP_HOST="127.0.0.1", SMTP_PORT=str(mail.port))
        roles = _start(stack, document, here, sink)
        targets = {name: [role.metrics_url.removeprefix("http://")] for name, role in roles.items()}
        targets["rabbitmq"] = [f"127.0.0.1:{rabbit.metrics_port}"]
        prometheus = _monitoring(stack, folder, document, here, targets)
        yield Composed(secrets, roles, postgres, prometheus, inbox.mails, collector)


def _servers(stack: ExitStack, folder: Path, here: _Addresses) -> tuple[PrivatePostgres, PrivateRabbit]:
    """PostgreSQL, Redis and RabbitMQ, with the logins of the secrets."""
    secrets = folder / "secrets"
    postgres = stack.enter_context(PrivatePostgres(_folder(folder, "postgres"), secrets=secrets))
    redis = stack.enter_context(PrivateRedis(_folder(folder, "redis"), "--aclfile", str(secrets / "redis_acl")))
    login = secrets / "rabbitmq_login"
    rabbit = stack.enter_context(PrivateRabbit(_folder(folder, "rabbitmq"), login=login, metrics=True))
    stack.callback(rabbit.kill)  # nobody needs what it would take seconds to write down
    here.add("postgres", postgres.port, 5432)
    here.add("redis", redis.port, 6379)
    here.add("rabbitmq", rabbit.port, 5672)
    return postgres, rabbit


def _monitoring(
    stack: ExitStack, folder: Path, document: Document, here: _Addresses, targets: dict[str, list[str]]
) -> PrivatePrometheus:
    """Exporters and Alertmanager join the `targets`."""
    for kind in ("postgres", "redis", "node"):
        name = f"{kind}-exporter"
        env = {key: here(value) for key, value in document["services"][name].get("environment", {}).items()}
        targets[name] = [stack.enter_context(PrivateExporter(_folder(folder, name), kind, env)).address]
    alertmanager = stack.enter_context(PrivateAlertmanager(_folder(folder, "alertmanager"), here))
    targets["alertmanager"] = [alertmanager.address]
    return stack.enter_context(PrivatePrometheus(_folder(folder, "prometheus"), targets))


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _start(stack: ExitStack, document: Document, here: _Addresses, sink: Sink) -> dict[str, RoleProcess]:
    """Every role is ready."""
    services = document["services"]
    for name in ("gateway", "auth", "processing"):
        here.add(name, free_port(), 8000)
    migrate = services["migrate"]
    env = {"PATH": "/usr/bin:/bin"} | _environment(migrate, here)
    subprocess.run([FIAPX, *migrate["command"]], env=env, check=True, capture_output=True)
    roles, program = {}, _program(Path(here.places["/var/lib/fiapx"]))
    for name in ROLES:
        address = here.places.get(f"{name}:8000")
        port = int(address.rpartition(":")[2]) if address else None
        env = _environment(services[name], here) | ({"FIAPX_PORT": str(port)} if port else {})
        roles[name] = RoleProcess(name, services[name]["command"], env, sink, port, program)
    for role in roles.values():
        stack.callback(role.stop)
        role.start()
    for role in roles.values():
        role.wait()
    return roles


def _program(storage: Path) -> list[str]:
    storage.mkdir()
    if not can_confine():
        return [FIAPX]
    os.chown(storage, UID, UID)
    return ["unshare", "--mount", "sh", "-eu", "-c", _CONFINED, "confined", str(storage), FIAPX]


def _environment(service: Document, here: _Addresses) -> dict[str, str]:
    """The root file system cannot be written: the home is no place where a folder can be made."""
    given = {name: here(str(value)) for name, value in service["environment"].items()}
    return {"HOME": "/proc/nowhere", "FIAPX_HOME": "/proc/nowhere"} | given | {"FIAPX_METRICS_PORT": str(free_port())}
