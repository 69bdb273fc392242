"""Commands that run the service: `up`."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fiapx.cli import options as flags
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import FiapxError, UsageError

if TYPE_CHECKING:
    import uvicorn

    from fiapx.bootstrap import EmbeddedServer
    from fiapx.settings import Settings

_BACKLOG: Final = 2048
_DESCRIPTORS: Final = 16_384
_TICK: Final = 0.2


def up(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Where everything is kept. [env: FIAPX_HOME]")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on. [env: FIAPX_HOST]")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one. [env: FIAPX_PORT]")
    ] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run the whole service in one process: gateway, accounts, jobs, worker and notices, with nothing to set up.

    It stops at Ctrl-C or SIGTERM once running jobs have ended, or gives them back to the queue after FIAPX_GRACE
    seconds; a second signal stops it now.

    Example: fiapx up --data ./fiapx-data --port 8000
    """
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    from fiapx.cli.config import load_settings

    settings = load_settings(home=data.absolute() if data else None, host=host, port=port)
    from fiapx.server.logs import configure_logging

    configure_logging(settings.log_level, settings.log_format)
    _allow_many_connections()
    os.umask(0o077)  # databases and uploads are this user's alone, also in a folder that others may enter
    with _listen(settings.host, settings.port) as listener:
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        from fiapx.bootstrap import embedded

        with embedded(settings, url) as server:
            _serve(server, listener, settings, lambda: _announce(terminal, url, settings))


def _announce(terminal: Terminal, url: str, settings: Settings) -> None:
    terminal.say(f"fiapx is ready at {url} (API documentation: {url}/docs). Data: {settings.home}")
    terminal.document({"url": url, "data": str(settings.home), "pid": os.getpid()})
    terminal.flush()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]  # the rest repeats the address
        raise UsageError(f"cannot listen on {host}:{port}: {reason}", hint="Choose another --port or --host.") from None


def _serve(server: EmbeddedServer, listener: socket.socket, settings: Settings, ready: Callable[[], None]) -> None:
    """Serve until a signal: answer new requests with 503, let jobs end and requests that are under way, and return.

    Both share the time of `grace`.
    """
    stop, hurry = Event(), Event()
    http = _Http(_uvicorn(server), listener, ended=stop)
    with _signals(server, stop, hurry):
        http.start()
        if http.wait_until_ready():
            ready()
        stop.wait()
        server.draining.set()
        deadline = time.monotonic() + settings.grace
        server.worker.stop(settings.grace)
        http.finish(deadline, hurry)
    if http.error:
        raise FiapxError("The server stopped unexpectedly.") from http.error


def _uvicorn(server: EmbeddedServer) -> uvicorn.Server:
    import uvicorn

    from fiapx.server.gateway.protocol import BoundedHttp

    return uvicorn.Server(
        uvicorn.Config(
            server.app,
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


class _Http(Thread):
    """uvicorn on a thread of its own. `ended` is set when it stops, for whatever reason; `error` says why it failed."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket, ended: Event) -> None:
        super().__init__(name="http", daemon=True)
        self._server = server
        self._listener = listener
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
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


@contextmanager
def _signals(server: EmbeddedServer, stop: Event, hurry: Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks to stop; one more gives running jobs back and cuts connections at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            hurry.set()
            Thread(target=server.worker.stop, args=(0,), daemon=True).start()
        server.draining.set()
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
