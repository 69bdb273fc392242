"""`fiapx up`: the whole service in one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiapx.cli import options as flags
from fiapx.cli.serving import address, run
from fiapx.cli.terminal import Terminal

if TYPE_CHECKING:
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
        url = address(settings.host, listener)
        from fiapx.bootstrap import embedded

        with embedded(settings, url) as server:
            run(
                [(server.app, listener)],
                server.draining,
                server.worker,
                settings.grace,
                lambda: _announce(terminal, url, settings),
            )


def _announce(terminal: Terminal, url: str, settings: Settings) -> None:
    terminal.say(f"fiapx is ready at {url} (API documentation: {url}/docs). Data: {settings.home}")
    terminal.document({"url": url, "data": str(settings.home), "pid": os.getpid()})
    terminal.flush()
