"""Commands that run one role of a distributed service each: `serve`, `worker`, `notify`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.serving import address, run
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from socket import socket

    from fiapx.bootstrap.process import Role
    from fiapx.settings import Settings

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on. [env: FIAPX_HOST]")]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one. [env: FIAPX_PORT]")
]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Port for metrics and health. [env: FIAPX_METRICS_PORT]"),
]


def serve(
    ctx: typer.Context,
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="[gateway] [auth] [processing]", help="All three by default.")
    ] = None,
    host: Host = None,
    port: Port = None,
    metrics_port: MetricsPort = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run HTTP services on PostgreSQL, RabbitMQ and Redis, as FIAPX_* settings name them.

    The gateway reaches services that do not run in its process at FIAPX_AUTH_URLS and FIAPX_PROCESSING_URLS.
    Workers and notices are processes of their own.

    Example: fiapx serve auth --port 8001
    """
    from fiapx.bootstrap.roles import SERVE_ROLES, serving

    chosen = [role for role in SERVE_ROLES if not roles or role in roles]
    if unknown := set(roles or ()) - set(SERVE_ROLES):
        raise UsageError(f"no such role: {min(unknown)}", hint=f"Choose among {', '.join(SERVE_ROLES)}.")
    settings = _start(ctx, as_json, host=host, port=port, metrics_port=metrics_port)
    _run(ctx, settings, "+".join(chosen), serving(settings, chosen), listens=True)


def worker(
    ctx: typer.Context,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, max=64, help="Jobs at the same time. [env: FIAPX_CONCURRENCY]"),
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option(metavar="MIN,MAX", help="Run as many processes as the queue needs. [env: FIAPX_AUTOSCALE]"),
    ] = None,
    metrics_port: MetricsPort = None,
    supervised_by: Annotated[int | None, typer.Option(hidden=True)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run a worker: it takes jobs from the queue and extracts their frames.

    It stops at Ctrl-C or SIGTERM once running jobs have ended, or gives them back
    to the queue after FIAPX_GRACE seconds; a second signal stops it now.

    With --autoscale it starts a process more while jobs wait for longer than
    FIAPX_AUTOSCALE_AGE, and ends one, after its job, when none has waited for FIAPX_AUTOSCALE_IDLE.

    Example: fiapx worker --autoscale 1,4
    """
    if supervised_by is not None:
        from fiapx.media.sandbox import die_with_parent

        die_with_parent(supervised_by)
    settings = _start(ctx, as_json, concurrency=concurrency, autoscale=autoscale, metrics_port=metrics_port)
    if settings.autoscale is not None and supervised_by is None:
        from fiapx.bootstrap.scaled import supervising

        return _run(ctx, settings, "worker", supervising(settings, *settings.autoscale))
    from fiapx.bootstrap.roles import working

    return _run(ctx, settings, "worker", working(settings))


def notify(ctx: typer.Context, metrics_port: MetricsPort = None, as_json: flags.AsJson = False) -> None:
    """Run the notices: mails about jobs that have ended.

    Example: fiapx notify
    """
    settings = _start(ctx, as_json, metrics_port=metrics_port)
    from fiapx.bootstrap.roles import notifying

    _run(ctx, settings, "notify", notifying(settings))


def _start(ctx: typer.Context, as_json: bool, **given: Any) -> Settings:
    from fiapx.cli.config import load_settings
    from fiapx.server.logs import configure_logging

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    settings = load_settings(**given)
    configure_logging(settings.log_level, settings.log_format)
    os.umask(0o077)
    return settings


def _run(
    ctx: typer.Context,
    settings: Settings,
    name: str,
    role: AbstractContextManager[Role],
    *,
    listens: bool = False,
) -> None:
    """Serve a role, and its metrics if they have a port, until a signal.

    Requests are not accepted before the role is there to answer them, however long it waits for its database.
    """
    from fiapx.server.serving import listen

    with ExitStack() as stack:
        ops_door = None
        if settings.metrics_port is not None:
            ops_door = stack.enter_context(listen(settings.metrics_host, settings.metrics_port))
        with _starting(ops_door):
            process = stack.enter_context(role)
        door = stack.enter_context(listen(settings.host, settings.port)) if listens else None
        url = address(settings.host, door) if door else ""
        apps = [(process.app, door)] if process.app is not None and door is not None else []
        if ops_door is not None:
            apps.append((process.ops, ops_door))
        metrics = address(settings.metrics_host, ops_door) if ops_door else None
        ready = partial(_announce, ctx.obj, name, url, metrics)
        run(apps, process.draining, process.worker, settings.grace, ready)


@contextmanager
def _starting(ops_door: socket | None) -> Iterator[None]:
    """Meanwhile the port of operations tells that the process lives, and is not ready."""
    from prometheus_client import CollectorRegistry

    from fiapx.server.ops import create_ops_app
    from fiapx.server.serving import HttpServer

    if ops_door is None:
        yield
        return
    app = create_ops_app(CollectorRegistry(), {"start": _not_yet}, Event())
    with ops_door.dup() as door:  # a server closes its own
        server = HttpServer(app, door, ended=Event())
        server.start()
        server.wait_until_ready()
        try:
            yield
        finally:
            server.finish(time.monotonic(), Event())


def _not_yet() -> None:
    raise Unavailable("The role is starting.")


def _announce(terminal: Terminal, name: str, url: str, metrics: str | None) -> None:
    terminal.say(f"fiapx {name} is ready{' at ' + url if url else ''}")
    terminal.document({"role": name, "url": url or None, "metrics": metrics, "pid": os.getpid()})
    terminal.flush()
