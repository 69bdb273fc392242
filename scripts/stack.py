"""Every role as a process of its own, against private PostgreSQL, RabbitMQ and Redis on this machine.

    python -m scripts.stack [--each 2] [--port 8000] [--data FOLDER]

Runs in the foreground with merged logs; Ctrl-C stops all. Needs Debian's postgresql, rabbitmq-server, redis-server.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final, NoReturn

from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import ServerFailed, ServerMissing, free_port
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.servers.redis import PrivateRedis

Sink = Callable[[str, str], None]
"""Takes the name of a process and a line that it wrote."""

FIAPX: Final = str(Path(sys.executable).parent / "fiapx")
_PATIENCE: Final = 60.0
_STOP: Final = 40.0


class RoleProcess:
    """One role. `command` is the command line after ``fiapx``; its ports stay when it is started anew."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: Mapping[str, str],
        sink: Sink,
        port: int | None,
        program: Sequence[str] = (FIAPX,),
    ) -> None:
        self.name, self.port = name, port
        self._command, self._env, self._sink, self._program = command, env, sink, program
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._readers: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._env['FIAPX_METRICS_PORT']}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def run_by(self, *program: str) -> RoleProcess:
        """The same role and ports, not yet started, of another program, such as an older version."""
        return RoleProcess(self.name, self._command, self._env, self._sink, self.port, program)

    def start(self) -> None:
        self._ready.clear()
        process = self._process = subprocess.Popen(
            [*self._program, *self._command, "--json"],
            env={**os.environ, **self._env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the stack alone, which stops the roles in order
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, ready), daemon=True)
            for stream, ready in ((process.stdout, True), (process.stderr, False))
        ]
        for reader in self._readers:
            reader.start()

    def wait(self) -> None:
        """Return once it is ready. Raises ServerFailed."""
        deadline = time.monotonic() + _PATIENCE
        while not self._ready.wait(0.05):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} is not ready")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What a command of ``fiapx`` says, run with the settings of this role."""
        env = {**os.environ, **self._env}
        return subprocess.run([FIAPX, *arguments], env=env, capture_output=True, text=True)

    def send(self, number: signal.Signals) -> None:
        """Such as SIGSTOP, which makes it hang."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """The exit code, or None if it had to be killed, or did not run."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            os.kill(process.pid, number)
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(_STOP)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for reader in self._readers:
            reader.join()
        return code

    def _read(self, stream: IO[str], ready: bool) -> None:
        with stream:
            for line in stream:
                if ready and line.startswith("{"):
                    self._ready.set()
                else:
                    self._sink(self.name, line.rstrip("\n"))


class Stack:
    """The servers and the roles. `roles` are by name, such as ``gateway-1``; `home` is their ``FIAPX_HOME``."""

    def __init__(
        self,
        home: Path,
        postgres: PrivatePostgres,
        rabbit: PrivateRabbit,
        redis: PrivateRedis,
        roles: dict[str, RoleProcess],
    ) -> None:
        self.home = home
        self.postgres, self.rabbit, self.redis, self.roles = postgres, rabbit, redis, roles

    def of(self, role: str) -> list[RoleProcess]:
        """The instances of a role."""
        return [process for name, process in self.roles.items() if name.rpartition("-")[0] == role]

    @property
    def url(self) -> str:
        """Of the first gateway."""
        return self.roles["gateway-1"].url


@contextmanager
def running(
    folder: Path,
    sink: Sink,
    *,
    each: int = 1,
    workers: int | None = None,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """All that is needed for a service, `each` instances of each role, or so many `workers`. `settings` are more
    ``FIAPX_*`` variables.

    Raises ServerMissing, ServerFailed.
    """
    with ExitStack() as stack:
        places = {name: _folder(folder / name) for name in ("postgres", "rabbitmq", "redis", "home")}
        postgres = stack.enter_context(PrivatePostgres(places["postgres"]))
        redis = stack.enter_context(PrivateRedis(places["redis"]))
        rabbit = stack.enter_context(PrivateRabbit(places["rabbitmq"]))
        env = _environment(places["home"], postgres, rabbit, redis) | dict(settings or {})
        _migrate(env)
        roles = _roles(env, sink, each, workers or each, port)
        stack.callback(_stop_all, roles)
        for process in roles.values():
            process.start()
        for process in roles.values():
            process.wait()
        yield Stack(places["home"], postgres, rabbit, redis, roles)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _environment(home: Path, postgres: PrivatePostgres, rabbit: PrivateRabbit, redis: PrivateRedis) -> dict[str, str]:
    secret = home / "secret.key"
    if not secret.exists():
        secret.write_text(secrets.token_urlsafe(32))
        secret.chmod(0o600)
    databases = {f"FIAPX_{name.upper()}_DATABASE_URL": postgres.url(name) for name in ("auth", "processing", "notify")}
    return databases | {
        "FIAPX_HOME": str(home),
        "FIAPX_SECRET_KEY_FILE": str(secret),
        "FIAPX_REDIS_URL": redis.url,
        "FIAPX_RABBITMQ_URL": rabbit.url,
        "FIAPX_TRUSTED_PROXIES": "127.0.0.1",
        "FIAPX_LOG_FORMAT": "json",
    }


def _roles(env: dict[str, str], sink: Sink, each: int, workers: int, port: int | None) -> dict[str, RoleProcess]:
    ports = {role: [free_port() for _ in range(each)] for role in ("gateway", "auth", "processing")}
    if port is not None:
        ports["gateway"][0] = port
    urls = {
        f"FIAPX_{role.upper()}_URLS": ",".join(f"http://127.0.0.1:{number}" for number in ports[role])
        for role in ("auth", "processing")
    }
    roles = {}
    for role in ("auth", "processing", "gateway", "worker", "notify"):
        for number in range(workers if role == "worker" else each):
            name, own = f"{role}-{number + 1}", ports[role][number] if role in ports else None
            command = ["serve", role, "--port", str(own)] if own else [role]
            metrics = {"FIAPX_METRICS_PORT": str(free_port())}
            roles[name] = RoleProcess(name, command, _own(role, env) | urls | metrics, sink, own)
    return roles


def _own(role: str, env: dict[str, str]) -> dict[str, str]:
    """No role knows the login of another's database."""
    database = {"auth": "AUTH", "processing": "PROCESSING", "worker": "PROCESSING", "notify": "NOTIFY"}.get(role)
    return {
        name: value
        for name, value in env.items()
        if "_DATABASE_URL" not in name or name == f"FIAPX_{database}_DATABASE_URL"
    }


def _stop_all(roles: dict[str, RoleProcess]) -> None:
    """Those in front first, each kind at once."""
    for kind in ("gateway", "processing", "auth", "worker", "notify"):
        ending = [process for name, process in roles.items() if name.startswith(kind)]
        threads = [threading.Thread(target=process.stop) for process in ending]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _migrate(env: Mapping[str, str]) -> None:
    done = subprocess.run([FIAPX, "db", "upgrade"], env={**os.environ, **env}, capture_output=True, text=True)
    if done.returncode:
        raise ServerFailed(done.stderr)


def _show(name: str, line: str) -> None:
    """Logs are JSON, one event a line."""
    with suppress(ValueError):
        event: dict[str, Any] = json.loads(line)
        rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("timestamp", "level", "event"))
        line = f"{event.get('level', ''):<8} {event.get('event', '')} {rest}"
    print(f"{name:<13} {line}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make stack", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--each", type=int, default=1, help="instances of each role")
    parser.add_argument("--port", type=int, default=8000, help="port of the first gateway")
    parser.add_argument("--data", type=Path, help="folder to keep everything in; a temporary one by default")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_once)
    with tempfile.TemporaryDirectory(prefix="fiapx-stack-") as temporary, suppress(KeyboardInterrupt):
        try:
            with running(options.data or Path(temporary), _show, each=options.each, port=options.port) as stack:
                gateways = ", ".join(process.url for process in stack.of("gateway"))
                print(f"ready: {gateways} (Ctrl-C stops all)", file=sys.stderr, flush=True)
                while True:
                    signal.pause()
        except (ServerMissing, ServerFailed) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _stop_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """Interrupt what goes on, be it the start, and let nothing interrupt the end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.write(2, b"stopping ...\n")  # what it interrupts may be a print
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
