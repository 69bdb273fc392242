"""Commands that run the service: `up`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Serve until a signal: refuse new requests, let jobs end, answer what is under way, and return."""
    http = _http_server(server, settings)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(http.serve(sockets=[listener]))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that can tell the user
            failed.append(error)
        finally:
            stopped.set()

    stopped = Event()
    with _signals(server, stopped):
        thread = Thread(target=run, name="http", daemon=True)
        thread.start()
        while not http.started and not stopped.wait(0.01):
            continue
        if http.started:
            ready()
        stopped.wait()
        http.should_exit = True
        server.draining.set()
        server.worker.stop(settings.grace)
        thread.join()
    if failed:
        raise FiapxError("The server stopped unexpectedly.") from failed[0]


def _http_server(server: EmbeddedServer, settings: Settings) -> uvicorn.Server:
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            server.app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            backlog=_BACKLOG,
            timeout_graceful_shutdown=max(int(settings.grace), 1),
        )
    )


@contextmanager
def _signals(server: EmbeddedServer, stopped: Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks to stop; one more gives running jobs back at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stopped.is_set():
            Thread(target=server.worker.stop, args=(0,), daemon=True).start()
        server.draining.set()
        stopped.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
