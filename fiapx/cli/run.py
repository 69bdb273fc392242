"""Commands that run the service: `up`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from fiapx.cli import options as flags
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import FiapxError

if TYPE_CHECKING:
    import socket

    from fiapx.bootstrap import EmbeddedServer
    from fiapx.settings import Settings


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

    It stops at Ctrl-C or SIGTERM once running jobs have ended, or gives them back
    to the queue after FIAPX_GRACE seconds; a second signal stops it now.

    Example: fiapx up --data ./fiapx-data --port 8000
    """
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    from fiapx.cli.config import load_settings

    settings = load_settings(home=data.absolute() if data else None, host=host, port=port)
    from fiapx.server.logs import configure_logging

    configure_logging(settings.log_level, settings.log_format)
    os.umask(0o077)  # databases and uploads are this user's alone, also in a folder that others may enter
    from fiapx.server.serving import listen

    with listen(settings.host, settings.port) as listener:
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        from fiapx.bootstrap import embedded

        with embedded(settings, url) as server:
            _serve(server, listener, settings, lambda: _announce(terminal, url, settings))


def _announce(terminal: Terminal, url: str, settings: Settings) -> None:
    terminal.say(f"fiapx is ready at {url} (API documentation: {url}/docs). Data: {settings.home}")
    terminal.document({"url": url, "data": str(settings.home), "pid": os.getpid()})
    terminal.flush()


def _serve(server: EmbeddedServer, listener: socket.socket, settings: Settings, ready: Callable[[], None]) -> None:
    """Serve until a signal: answer new requests with 503, let jobs end and requests that are under way, and return.

    Both share the time of `grace`.
    """
    from fiapx.server.serving import HttpServer

    stop, hurry = Event(), Event()
    http = HttpServer(server.app, listener, ended=stop)
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
