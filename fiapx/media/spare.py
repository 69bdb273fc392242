"""Decoder children that are started before anybody knows their video: importing takes them 0.2 s, and a clip less."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from fiapx.media.process import Process, end, spawn

Start = Callable[[int], Process]
"""Starts a decoder child, given its standard input."""

_early: list[Spare] = []


def _fresh(stdin: int) -> Process:
    return spawn("fiapx.media.child", stdin=stdin)


def start_early() -> None:
    """Start one for whoever asks `any_spare` first; where that fails, they will start their own and tell why."""
    with suppress(OSError):
        _early.append(Spare())


def any_spare() -> Spare:
    """The one that was started early, or else a fresh one."""
    return _early.pop() if _early else Spare()


class Spare:
    """A child that waits for its video. Leaving the `with` block stops it, unless `take` gave it away.

    A fresh one dies with the thread that made it.
    """

    def __init__(self, start: Start = _fresh) -> None:
        self._start = start
        self._child: tuple[Process, socket.socket] | None = self._started()

    def take(self) -> tuple[Process, socket.socket]:
        """The child and its standard input, which are the caller's from now on; another child if it is gone."""
        taken, self._child = self._child, None
        return taken or self._started()

    def refill(self) -> None:
        """Have another child start, for whoever takes the next; where that fails, they will start it and tell why."""
        if self._child is None:
            with suppress(OSError):
                self._child = self._started()

    def _started(self) -> tuple[Process, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                return self._start(theirs.fileno()), ours
            except BaseException:
                ours.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is None:
            return
        (process, requests), self._child = self._child, None
        requests.close()
        end(process)
