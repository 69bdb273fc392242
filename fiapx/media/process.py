"""A child process that cannot outlive its welcome: own group, minimal environment, watched time, bounded stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, BinaryIO, Final, Protocol, Self

from fiapx.core.errors import Cancelled, DecoderFailed, FiapxError, LimitExceeded
from fiapx.core.text import visible

_POLL: Final = 0.1
_TAIL: Final = 8192
_SHOWN: Final = 200
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Watch:
    """Why work may have to stop early: someone set `cancelled`, or its time is over."""

    def __init__(self, timeout: float, cancelled: threading.Event | None = None) -> None:
        self.timeout = timeout
        self._cancelled = cancelled or threading.Event()
        self._deadline = time.monotonic() + timeout

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long; True once the work must stop."""
        return self._cancelled.wait(seconds) or time.monotonic() > self._deadline

    def check(self) -> None:
        """Raise Cancelled or LimitExceeded once the work must stop."""
        if self._cancelled.is_set():
            raise Cancelled
        if time.monotonic() > self._deadline:
            raise LimitExceeded(f"The video took longer than {self.timeout:g} s.")


def spawn(
    module: str, arguments: Sequence[str] = (), *, pass_fds: Sequence[int] = (), stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start ``python -m module PARENT ARGUMENT...``, PARENT being our process id."""
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(os.getpid()), *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=1 << 16,
        pass_fds=pass_fds,
        cwd="/",
        env=environment | {"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )


class Process(Protocol):
    """A child that leads its own process group; `subprocess.Popen` is one."""

    pid: int
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def end(process: Process) -> None:
    """Kill the child and its whole group, and wait for the end."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class Supervised:
    """A running child. Leaving the `with` block kills its whole group."""

    def __init__(self, process: Process, watch: Watch, *, on_line: Callable[[str], bool] = lambda _: False) -> None:
        """`on_line` gets each line of its stderr and says whether it has used it up."""
        self._process = process
        self._watch = watch
        self._on_line = on_line
        self._tail = ""
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        self._drainer.start()
        threading.Thread(target=self._supervise, daemon=True).start()

    @property
    def stdout(self) -> BinaryIO:
        return self._process.stdout  # type: ignore[return-value]  # always a pipe

    def join(self) -> int:
        """Wait for the end of the child and of its stderr; the exit code, negative for a signal."""
        code = self._process.wait()
        self._drainer.join()
        return code

    def failure(self) -> FiapxError:
        """Why the child ended too early. Call it after its stdout has closed."""
        code = self.join()
        try:
            self._watch.check()
        except FiapxError as error:
            return error
        if code == -signal.SIGXCPU or "MemoryError" in self._tail or "Cannot allocate memory" in self._tail:
            return LimitExceeded("The video needs more memory or processor time than is allowed.")
        reason = f"by signal {-code}" if code < 0 else f"with status {code}"
        last = visible(self._tail.strip().rsplit("\n", 1)[-1])[:_SHOWN]
        return DecoderFailed(f"The decoder ended {reason}{': ' + last if last else ''}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()
        self.join()
        self.stdout.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _supervise(self) -> None:
        while self._process.poll() is None:
            if self._watch.wait(_POLL):
                self._kill()
                self._process.wait()

    def _drain(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while line := stream.readline(_TAIL):
                text = line.decode(errors="replace")
                if not self._on_line(text):
                    self._tail = (self._tail + text)[-_TAIL:]
