"""Worker processes under a supervisor, which is a role of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

from prometheus_client import CollectorRegistry

from fiapx.bootstrap.parts import answers
from fiapx.bootstrap.process import BEARABLE, Role
from fiapx.bootstrap.servers import Servers
from fiapx.core.cores import granted_cores
from fiapx.core.errors import Unavailable
from fiapx.server.gateway.health import HealthCheck
from fiapx.server.ops import create_ops_app
from fiapx.server.processing.reads import Reads
from fiapx.settings import Settings
from fiapx.worker.crew import Crew, Spawn
from fiapx.worker.gathering import CrewCollector
from fiapx.worker.scaling import Policy
from fiapx.worker.supervisor import Supervisor

_SPARE: Final = 60.0


@contextmanager
def supervising(settings: Settings, least: int, most: int) -> Iterator[Role]:
    """From `least` to `most` processes of `fiapx worker`. They are started here and stopped by the caller.

    Raises UsageError.
    """
    policy = Policy(least, most, settings.autoscale_age, settings.autoscale_idle)
    with Servers(settings) as servers:
        engine = servers.database("processing")
        crew = Crew(_spawn(settings), most)
        supervisor = Supervisor(crew, policy, Reads(engine).oldest_waiting)
        registry, draining = CollectorRegistry(), Event()
        registry.register(CrewCollector(crew, policy, lambda: supervisor.age))
        checks: dict[str, HealthCheck] = {
            "postgresql": answers(engine),
            "redis": servers.cache.check,
            "rabbitmq": servers.bus.check,
            "storage": servers.storage.check,
            "worker": _enough(supervisor),
        }
        supervisor.start()
        try:
            yield Role(create_ops_app(registry, checks, draining, BEARABLE), draining, worker=supervisor)
        finally:
            supervisor.stop(0)


def _spawn(settings: Settings) -> Spawn:
    """Processes with the settings of this one, except for what the supervisor decides.

    It ends them, so their own grace outlasts any job. They share the cores: the first may use all, the second half of
    them, the third a third, so that a lone one is fast and many are not many times too many decoders.
    """
    cores = settings.cores or granted_cores()
    own = [sys.executable, "-m", "fiapx", "worker", "--json", "--metrics-port", "0"]
    command = [*own, "--supervised-by", str(os.getpid())]

    def spawn(number: int) -> subprocess.Popen[bytes]:
        environ = os.environ | {
            "FIAPX_CONCURRENCY": str(settings.concurrency),
            "FIAPX_CORES": str(max(1, cores // number)),
            "FIAPX_GRACE": str(settings.job_timeout + _SPARE),
            "FIAPX_METRICS_HOST": "127.0.0.1",
        }
        return subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C reaches the supervisor alone
        )

    return spawn


def _enough(supervisor: Supervisor) -> HealthCheck:
    def check() -> None:
        if not supervisor.alive():
            raise Unavailable("Fewer workers run than there have to be.")

    return check
