"""One ASGI app on one socket, so that it can be told when to stop listening, and when to stop waiting."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from contextlib import suppress
from threading import Event, Thread
from typing import Final

import uvicorn
import uvloop
from starlette.types import ASGIApp

from fiapx.core.errors import UsageError
from fiapx.server.protocol import BoundedHttp

_BACKLOG: Final = 2048
_DESCRIPTORS: Final = 16_384
_TICK: Final = 0.2


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError."""
    _allow_many_connections()
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]  # the rest repeats the address
        raise UsageError(f"cannot listen on {host}:{port}: {reason}", hint="Choose another --port or --host.") from None


class HttpServer(Thread):
    """An app behind uvicorn, on a thread of its own.

    `ended` is set when it stops, for whatever reason; `error` says why it failed.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, ended: Event) -> None:
        super().__init__(name="http", daemon=True)
        self._server = _uvicorn(app)
        self._listener = listener
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that can tell the user
            self.error = error
        finally:
            self._ended.set()

    def wait_until_ready(self) -> bool:
        """Whether it serves; False if it was told to end before it could."""
        while not self._server.started and not self._ended.wait(0.01):
            continue
        return self._server.started

    def finish(self, deadline: float, hurry: Event) -> None:
        """Close the door, and return when what is under way has been answered.

        From the `deadline` (monotonic time) on, or once there is a `hurry`, connections are cut instead. To the
        services that looks like clients who leave, which they are used to; to be cancelled they are not.
        """
        self._server.should_exit = True
        while self.is_alive():
            self.join(_TICK)
            late = hurry.is_set() or time.monotonic() > deadline + _TICK
            if late and self._loop is not None:
                with suppress(RuntimeError):  # it has ended in between
                    self._loop.call_soon_threadsafe(self._cut)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._listener])

    def _cut(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


def _uvicorn(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedHttp,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody on this machine could name the address that limits count
            backlog=_BACKLOG,
        )
    )


def _allow_many_connections() -> None:
    """Each is a descriptor, and so is each file and database; the usual soft limit of 1024 is soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower one of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
