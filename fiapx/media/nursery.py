"""``python -m fiapx.media.nursery PARENT``: has imported what decoder children need, and forks them.

A child then starts in 5 ms instead of 160, most of what a short video costs. Requests come through stdin, a
SOCK_SEQPACKET socket: a byte that carries the child's stdin, stdout, stderr and the pipe of its status, through which
come its process id, and its exit code (negative for a signal) at the end. Children die with the nursery.

All children of one nursery have one layout of memory, which a video that took over a child might learn for the next
one: a nursery is replaced after a crash, and after so many children.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, Final, NoReturn

from fiapx.media import sandbox
from fiapx.media.process import end, spawn

_STATUS: Final = struct.Struct("=i")
_MOST: Final = 1000
"""Children of one nursery."""
_PATIENCE: Final = 20.0
"""Seconds that a nursery may take to fork: it imports first."""
_PAUSE: Final = 1.0
"""Seconds between two starts, should the first have failed."""
_CRASHES: Final = frozenset(
    -number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS)
)


class Nursery:
    """Keeps a nursery process; safe to share between threads. To be started, and closed when no child is needed any
    more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._children = 0
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="nursery", daemon=True)

    def start(self) -> None:
        """Returns at once; until the process is there, it has no children to give."""
        self._keeper.start()

    def child(self, stdin: int) -> Forked:
        """A decoder child (see `child`) with this standard input. Raises OSError."""
        try:
            with self._lock:
                if self._socket is None:
                    raise ConnectionError("the nursery is not there")
                forked = Forked(self._socket, stdin, self.retire)
                self._children += 1
        except OSError:
            self._changed.set()  # it may have died
            raise
        if self._children >= _MOST:
            self.retire()
        return forked

    def retire(self) -> None:
        """Let another take over. The process ends by itself once it is asked for nothing more and has no children."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        self._changed.set()

    def close(self) -> None:
        """End all: children die with their nursery."""
        self._closed.set()
        self.retire()
        if self._keeper.is_alive():
            self._keeper.join()

    def _keep(self) -> None:
        """Runs in a thread that lasts, since the processes that it starts die with it."""
        retired: list[subprocess.Popen[bytes]] = []
        while not self._closed.is_set():
            if process := self._start():
                retired.append(process)
                while self._socket is not None and process.poll() is None and not self._closed.is_set():
                    self._changed.wait(_PAUSE)
                    self._changed.clear()
                self.retire()
                retired = [each for each in retired if not _ended(each)]
            if not process or process.poll() is not None:
                self._closed.wait(_PAUSE)
        for process in retired:
            end(process)

    def _start(self) -> subprocess.Popen[bytes] | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                process = spawn("fiapx.media.nursery", stdin=theirs.fileno())
            except OSError:
                ours.close()
                return None
        with self._lock:
            self._socket, self._children = ours, 0
        return process


def _ended(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is None:
        return False
    process.communicate()
    return True


class Forked:
    """A child of a nursery, like a `subprocess.Popen`."""

    def __init__(self, nursery: socket.socket, stdin: int, on_crash: Callable[[], None]) -> None:
        """Raises OSError where there is none to be had."""
        pipes = [os.pipe() for _ in range(3)]
        theirs = [write for _, write in pipes]
        try:
            socket.send_fds(nursery, [b"\0"], [stdin, *theirs])
        except BaseException:
            for read, _ in pipes:
                os.close(read)
            raise
        finally:
            for write in theirs:
                os.close(write)
        self.stdout: IO[bytes] | None = os.fdopen(pipes[0][0], "rb", 1 << 16)
        self.stderr: IO[bytes] | None = os.fdopen(pipes[1][0], "rb", 1 << 16)
        self._status: IO[bytes] = os.fdopen(pipes[2][0], "rb", 0)
        self._on_crash = on_crash
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self.pid = self._first_word()

    def _first_word(self) -> int:
        word = self._status.read(_STATUS.size) if _readable(self._status, _PATIENCE) else b""
        if len(word) == _STATUS.size:
            return int(_STATUS.unpack(word)[0])
        for pipe in (self.stdout, self.stderr, self._status):
            if pipe is not None:
                pipe.close()
        raise ConnectionError("the nursery does not answer")

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Never waits, not even for who waits."""
        if self._lock.acquire(blocking=False):
            try:
                self._look(0)
            finally:
                self._lock.release()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        with self._lock:
            self._look(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("decoder", timeout or 0)
        return self.returncode

    def _look(self, timeout: float | None) -> None:
        if self.returncode is not None or not _readable(self._status, timeout):
            return
        word = self._status.read(_STATUS.size)
        self._status.close()
        # where the nursery has died, so has its child
        self.returncode = _STATUS.unpack(word)[0] if len(word) == _STATUS.size else -signal.SIGKILL
        if self.returncode in _CRASHES:
            self._on_crash()


def _readable(pipe: IO[bytes], timeout: float | None) -> bool:
    """Whether there is something to read, or its end, within `timeout` seconds. A busy server's descriptors have
    higher numbers than select(2) can take."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def main() -> None:
    """Fork until nobody asks any more and the last child has ended."""
    from fiapx.media import child

    sandbox.die_with_parent(int(sys.argv[1]))
    requests = socket.socket(fileno=0)
    wakened, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.freeze()  # what is imported stays shared by all children
    children: dict[int, int] = {}
    waiting = [requests, wakened]
    while requests in waiting or children:
        ready, _, _ = select.select(waiting, [], [])
        if wakened in ready:
            wakened.recv(4096)
            _reap(children)
        if requests in ready:
            _, descriptors, *_ = socket.recv_fds(requests, 1, 4)
            if len(descriptors) == 4:
                _fork(descriptors, children, child.main)
            else:
                waiting.remove(requests)


def _fork(descriptors: list[int], children: dict[int, int], serve: Callable[[int], None]) -> None:
    *standard, status = descriptors
    nursery = os.getpid()
    pid = os.fork()
    if not pid:
        _become(standard, partial(serve, nursery))
    with suppress(OSError):
        os.setpgid(pid, pid)  # both sides do it, since neither may wait for the other
    children[pid] = status
    os.write(status, _STATUS.pack(pid))
    for descriptor in standard:
        os.close(descriptor)


def _become(standard: list[int], serve: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        os.closerange(len(standard), os.sysconf("SC_OPEN_MAX"))
        serve()
        sys.stdout.flush()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of this may go on in the nursery's loop
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _reap(children: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            descriptor = children.pop(pid)
            with suppress(OSError):  # nobody wants to know
                os.write(descriptor, _STATUS.pack(os.waitstatus_to_exitcode(status)))
            os.close(descriptor)


if __name__ == "__main__":
    main()
