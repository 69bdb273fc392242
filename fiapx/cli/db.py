"""`fiapx db`: the schemas of the services' databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fiapx.cli import options as flags
from fiapx.cli.help import PlainGroup
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fiapx.adapters.db import Service

db = typer.Typer(name="db", cls=PlainGroup, help="Schemas of the services' databases.", no_args_is_help=True)

Services = Annotated[
    list[str] | None, typer.Argument(metavar="[auth] [processing] [notify]", help="Those with a URL by default.")
]


@db.command()
def upgrade(ctx: typer.Context, services: Services = None, as_json: flags.AsJson = False) -> None:
    """Bring databases to this version's schema. Several at once, or a repeat, do no harm.

    Example: fiapx db upgrade
    """
    from fiapx.adapters.db import migrate

    terminal = _terminal(ctx, as_json)
    done = []
    for service, engine in _databases(services):
        migrate(engine, service)
        terminal.say(f"{service}: up to date")
        done.append(service)
    terminal.document({"upgraded": done})


@db.command()
def check(ctx: typer.Context, services: Services = None, as_json: flags.AsJson = False) -> None:
    """Tell whether databases have this version's schema; the exit code is 1 where one has not.

    Example: fiapx db check
    """
    from fiapx.adapters.db import pending

    terminal = _terminal(ctx, as_json)
    found: dict[str, str | None] = {service: pending(engine, service) for service, engine in _databases(services)}
    for service, state in found.items():
        terminal.say(f"{service}: {state or 'up to date'}")
    terminal.document({"pending": found})
    if any(found.values()):
        raise typer.Exit(Exit.FAILED)


@db.command()
def current(ctx: typer.Context, services: Services = None, as_json: flags.AsJson = False) -> None:
    """Show the schema version of databases.

    Example: fiapx db current
    """
    from fiapx.adapters.db import revision

    terminal = _terminal(ctx, as_json)
    found = {service: revision(engine) for service, engine in _databases(services)}
    for service, version in found.items():
        terminal.say(f"{service}: {version or 'empty'}")
    terminal.document({"revisions": found})


def _terminal(ctx: typer.Context, as_json: bool) -> Terminal:
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    return terminal


def _databases(services: list[str] | None) -> Iterator[tuple[Service, Engine]]:
    from fiapx.adapters.db import SERVICES, open_database
    from fiapx.cli.config import load_settings

    if unknown := set(services or ()) - set(SERVICES):
        raise UsageError(f"no such service: {min(unknown)}", hint=f"Choose among {', '.join(SERVICES)}.")
    settings = load_settings()
    urls = {service: getattr(settings, f"{service}_database_url") for service in SERVICES}
    chosen = [service for service in SERVICES if service in (services or [name for name in SERVICES if urls[name]])]
    missing = [service for service in chosen if not urls[service]]
    if missing or not chosen:
        names = ", ".join(f"FIAPX_{service.upper()}_DATABASE_URL" for service in missing or SERVICES)
        raise UsageError(f"{names}: not set", hint="`fiapx up` keeps its own databases up to date.")
    for service in chosen:
        engine = open_database(urls[service].get_secret_value())
        try:
            yield service, engine
        finally:
            engine.dispose()
