"""A private Redis with the configuration of the Compose file."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Final, Self

from scripts.servers.process import PrivateProcess, free_port, program

_PACKAGE: Final = "redis-server"
_SHIPPED: Final = Path(__file__).parents[2] / "compose" / "redis" / "redis.conf"
_PROGRAMS: Final = ("/usr/bin/redis-server", "/usr/local/bin/redis-server")


class PrivateRedis:
    """Keeps nothing on disk. Stopped and started again, it has the same address and is empty.

    Raises ServerMissing or ServerFailed.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` are more words of its command line."""
        self._folder, self._options = folder, options
        self._program = program(_PACKAGE, *_PROGRAMS)
        self._port = free_port()
        self._process: PrivateProcess | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Return once it answers."""
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command = [str(self._program), str(_SHIPPED), *options, *self._options]
        self._process = PrivateProcess(command, self._folder)
        self._process.wait_until(lambda: self.command("PING").startswith(("+PONG", "-NOAUTH")))

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """All of it at once, without a word."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def pause(self) -> None:
        """It keeps its connections, takes new ones, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def flush(self) -> None:
        """Lose every value."""
        self.command("FLUSHALL")

    def command(self, *words: str) -> str:
        """Send one command; the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.makefile("r", newline="\r\n").readline().strip()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)
