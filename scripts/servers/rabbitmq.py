"""A RabbitMQ of our own, with the configuration of the Compose file, its own node name, port mapper and free ports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from scripts.servers.process import PrivateProcess, free_port, hand_over, program, unprivileged

_SHIPPED: Final = Path(__file__).parents[2] / "compose" / "rabbitmq" / "rabbitmq.conf"


class PrivateRabbit:
    """Everything it writes is in `folder`. Raises ServerMissing or ServerFailed."""

    def __init__(self, folder: Path, *, login: Path | None = None, metrics: bool = False) -> None:
        """`login` is a configuration file with the first user; with `metrics` it has a port for Prometheus."""
        bin_ = program("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server").parent
        self._server, self._ctl = bin_ / "rabbitmq-server", bin_ / "rabbitmqctl"
        self._folder = folder
        self._owner = unprivileged("rabbitmq")
        self.port, self._epmd_port = free_port(), free_port()
        self.metrics_port = free_port() if metrics else None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plugins").write_text("[rabbitmq_prometheus].\n" if metrics else "[].\n")
        self._configure(login)
        hand_over(folder, self._owner)
        self._env = self._environment()
        with ExitStack() as undo:
            undo.callback(self._end_mapper)
            self.start()
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def start(self) -> None:
        """Return once it takes connections."""
        self._process = PrivateProcess([str(self._server)], self._folder, env=self._env, owner=self._owner)
        self._process.wait_until(self._answers)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        """As a power cut would."""
        self._process.kill()

    def pause(self) -> None:
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.signal(signal.SIGCONT)

    def is_silent(self) -> bool:
        """Whether it answers nothing."""
        try:
            return not self._answers()
        except OSError:
            return True

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` says."""
        user, group = self._owner or (None, None)
        command = [str(self._ctl), *arguments]
        return subprocess.run(
            command, env=self._env, cwd=self._folder, user=user, group=group, check=True, capture_output=True, text=True
        ).stdout

    def close(self) -> None:
        """Stop it, and the port mapper that it started."""
        self.stop()
        self._end_mapper()

    def _end_mapper(self) -> None:
        mapper = shutil.which("epmd")
        if mapper:
            subprocess.run([mapper, "-kill"], env=self._env, capture_output=True, check=False)

    def _configure(self, login: Path | None) -> None:
        """As in the image, files in one folder are read in order, and a later one wins."""
        folder = self._folder / "conf.d"
        folder.mkdir(exist_ok=True)
        for number, path in enumerate([_SHIPPED, login] if login else [_SHIPPED]):
            (folder / f"{number}.conf").write_text(path.read_text())
        own = ["disk_free_limit.absolute = 50MB", "log.console.level = info"]
        own += [f"prometheus.tcp.port = {self.metrics_port}"] if self.metrics_port else []
        (folder / "9.conf").write_text("\n".join(own) + "\n")

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(probe.recv(1))

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"fiapx{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_CONFIG_FILES": f"{folder}/conf.d",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
        }
