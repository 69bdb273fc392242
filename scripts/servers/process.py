"""What the private servers have in common."""

from __future__ import annotations

import os
import pwd
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

_PATIENCE: Final = 30.0
_STOP: Final = 10.0
_PORTS: Final = range(10_240, 32_768)
_RANDOM: Final = random.SystemRandom()


class ServerMissing(Exception):
    """The program of a server is not installed; the message names the Debian package."""


class ServerFailed(Exception):
    """A server did not start; the message has its last words."""


def free_port() -> int:
    """A port of the loopback interface that nobody uses, and that no other process is told while this one lives: a
    server may leave it and come back.

    No connection takes it in the meantime: the kernel takes those of its own choice from higher ones.
    """
    while True:
        port = _RANDOM.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _claim(port)
            return port


def _claim(port: int) -> None:
    """Whoever holds a port's namesake for datagrams, which no server here wants, may use it. Raises OSError."""
    claim = socket.socket(type=socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        raise
    claim.detach()  # it stays open until this process ends


def program(package: str, *candidates: str) -> Path:
    """The first of the paths that exists. Raises ServerMissing."""
    for candidate in candidates:
        if Path(candidate).exists():
            return Path(candidate)
    raise ServerMissing(f"{Path(candidates[0]).name} is not installed: apt-get install {package}")


def unprivileged(user: str) -> tuple[int, int] | None:
    """(uid, gid) to run a server as that refuses to run as root; None where this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def hand_over(folder: Path, owner: tuple[int, int] | None) -> None:
    """Give a folder to the user that a server runs as, and let that user pass through temporary folders above it, such
    as those that pytest makes for one user alone."""
    if owner is None:
        return
    os.chown(folder, *owner)
    top = Path(tempfile.gettempdir())
    for parent in folder.parents:
        if parent.is_relative_to(top) and parent != top:
            parent.chmod(parent.stat().st_mode | 0o011)


def wait_until(ready: Callable[[], bool], patience: float = _PATIENCE, hope: Callable[[], bool] = lambda: True) -> bool:
    """Whether it becomes `ready` within so many seconds, while there is `hope`. What fails is tried again."""
    deadline = time.monotonic() + patience
    while True:
        with suppress(Exception):
            if ready():
                return True
        if not hope() or time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def descendants(pid: int) -> set[int]:
    """The children of a process, and theirs."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        young = children.get(waiting.pop(), [])
        found.update(young)
        waiting += young
    return found


class PrivateProcess:
    """A server of ours alone: it and its children end with `stop`. Its output goes to a file in `folder`."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        owner: tuple[int, int] | None = None,
        ending: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._log = folder / "server.log"
        self._ending = ending
        user, group = owner or (None, None)
        with self._log.open("ab") as log:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=folder,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=[] if owner else None,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], patience: float = _PATIENCE) -> None:
        """Raises ServerFailed, with the end of the server's output. It is stopped then, and also by Ctrl-C."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            if not wait_until(ready, patience, lambda: self._process.poll() is None):
                tail = self._log.read_text(errors="replace")[-2000:]
                raise ServerFailed(f"{self._process.args!r} is not ready: {tail}")
            undo.pop_all()

    def signal(self, number: signal.Signals) -> None:
        """To the server with all its children: SIGSTOP pauses them, SIGCONT lets them go on.

        Those of PostgreSQL leave the group of their parent.
        """
        children = descendants(self._process.pid)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        for child in children | descendants(self._process.pid):  # one may have come in between
            with suppress(ProcessLookupError):
                os.kill(child, number)

    def stop(self) -> None:
        """End it; what has not ended in ten seconds is killed."""
        self.signal(signal.SIGCONT)
        with suppress(ProcessLookupError):
            self._process.send_signal(self._ending)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for all of them."""
        self.signal(signal.SIGKILL)
        self._process.wait()
