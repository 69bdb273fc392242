"""Threads that work beside the requests, such as relays and the reaper."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from fiapx.core.errors import Unavailable


class Background:
    """Threads that run until they are told to stop."""

    def __init__(self) -> None:
        self.stopping = Event()
        self._wakes: list[Event] = []
        self._threads: dict[str, Thread] = {}

    def add(self, name: str, run: Callable[[Event], None], wake: Event | None = None) -> Callable[[], None]:
        """Register a thread. `wake` makes it look at `stopping` at once. Returns its health check."""
        thread = self._threads[name] = Thread(target=run, args=(self.stopping,), name=name, daemon=True)
        self._wakes += [wake] if wake else []

        def check() -> None:
            if not thread.is_alive():
                raise Unavailable(f"{name} does not run.")

        return check

    def start(self) -> None:
        for thread in self._threads.values():
            thread.start()

    def stop(self, timeout: float = 10) -> None:
        self.stopping.set()
        for wake in self._wakes:
            wake.set()
        for thread in self._threads.values():
            thread.join(timeout)
