"""A process that serves until it is told to stop: by SIGINT or SIGTERM, and a second one for those in a hurry."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from fiapx.core.errors import FiapxError

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from fiapx.bootstrap.process import Workforce

_TICK: Final = 0.5


def address(host: str, listener: socket.socket) -> str:
    """The URL of a listening socket."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def run(
    apps: Sequence[tuple[ASGIApp, socket.socket]],
    draining: Event,
    worker: Workforce | None,
    grace: float,
    ready: Callable[[], None],
) -> None:
    """Serve until a signal: answer new requests with 503, let jobs end and requests that are under way, and return.

    Both share the time of `grace`, in seconds. `ready` is called once all apps are served.
    """
    from fiapx.server.serving import HttpServer

    stop, hurry = Event(), Event()
    servers = [HttpServer(app, listener, ended=stop) for app, listener in apps]
    with _signals(draining, worker, stop, hurry):
        for server in servers:
            server.start()
        if all(server.wait_until_ready() for server in servers):
            ready()
        while not stop.wait(_TICK):  # without an end, it would miss a signal that the system gave to another thread
            continue
        draining.set()
        deadline = time.monotonic() + grace
        if worker is not None:
            worker.stop(grace)
        for server in servers:
            server.finish(deadline, hurry)
    for server in servers:
        if server.error:
            raise FiapxError("The server stopped unexpectedly.") from server.error


@contextmanager
def _signals(draining: Event, worker: Workforce | None, stop: Event, hurry: Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks to stop; one more gives running jobs back and cuts connections at once.

    A handler may interrupt this thread anywhere, even in the middle of an event's `set` or `wait`, whose lock it would
    then wait for in vain. It puts a word into a queue that may be put to from anywhere; a thread does the rest.
    """
    heard = SimpleQueue[bool]()

    def listen() -> None:
        while heard.get():
            if stop.is_set():
                hurry.set()
                if worker is not None:
                    Thread(target=worker.stop, args=(0,), daemon=True).start()
            draining.set()
            stop.set()

    listener = Thread(target=listen, name="signals", daemon=True)
    listener.start()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: heard.put(True)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        heard.put(False)
        listener.join()
