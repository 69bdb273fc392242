"""`fiapx users`: accounts, from the operator's shell. It works on auth's database, and asks for no log-in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.help import PlainGroup
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import UsageError
from fiapx.core.text import visible

if TYPE_CHECKING:
    from fiapx.server.auth.administration import Administration
    from fiapx.server.auth.service import User

users = typer.Typer(name="users", cls=PlainGroup, help="Accounts, on the server's own machine.", no_args_is_help=True)


@users.command("list")
def list_(
    ctx: typer.Context,
    search: Annotated[str, typer.Option("--search", metavar="TEXT", help="Only addresses with this in them.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many at most.")] = 100,
    data: flags.Data = None,
    as_json: flags.AsJson = False,
) -> None:
    """List accounts in order of their addresses.

    Example: fiapx users list --search @example.org
    """
    with _administering(ctx, as_json, data) as (terminal, administration):
        found = administration.users(search, limit=limit)
        rows = [(user.email, user.role, _state(user), user.id) for user in found]
        terminal.table(("ADDRESS", "ROLE", "STATE", "ID"), rows)
        terminal.document({"users": [_told(user) for user in found]})


@users.command()
def disable(ctx: typer.Context, email: flags.Email, data: flags.Data = None, as_json: flags.AsJson = False) -> None:
    """Shut an account out: its sessions end at once, and it can open no new ones. Its jobs go on.

    Example: fiapx users disable ada@example.org
    """
    with _administering(ctx, as_json, data) as (terminal, administration):
        _tell(terminal, administration.disable(administration.found(email).id, _operator()))


@users.command()
def enable(ctx: typer.Context, email: flags.Email, data: flags.Data = None, as_json: flags.AsJson = False) -> None:
    """Let an account log in again.

    Example: fiapx users enable ada@example.org
    """
    with _administering(ctx, as_json, data) as (terminal, administration):
        _tell(terminal, administration.enable(administration.found(email).id, _operator()))


@users.command("set-role")
def set_role(
    ctx: typer.Context,
    email: flags.Email,
    role: Annotated[str, typer.Argument(metavar="user|admin", show_default=False, help="What it may do.")],
    data: flags.Data = None,
    as_json: flags.AsJson = False,
) -> None:
    """Make an account an administrator's, or an ordinary one again; its sessions end.

    Example: fiapx users set-role ada@example.org admin
    """
    if role not in ("user", "admin"):
        raise UsageError(f"there is no role {role}", hint="Choose user or admin.")
    with _administering(ctx, as_json, data) as (terminal, administration):
        user = administration.found(email)
        _tell(terminal, administration.set_role(user.id, "admin" if role == "admin" else "user", _operator()))


@contextmanager
def _administering(ctx: typer.Context, as_json: bool, data: Path | None) -> Iterator[tuple[Terminal, Administration]]:
    from fiapx.cli.config import load_settings

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    settings = load_settings(home=data.absolute() if data else None)
    from fiapx.bootstrap.users import administering
    from fiapx.server.logs import configure_logging

    configure_logging(settings.log_level, settings.log_format)
    with administering(settings) as administration:
        yield terminal, administration


def _operator() -> str:
    """Who is at the shell, for the log: a container's users have no names."""
    return f"shell:{os.getuid()}"


def _tell(terminal: Terminal, user: User) -> None:
    terminal.say(visible(f"{user.email}: {user.role}, {_state(user)}"))
    terminal.document(_told(user))


def _state(user: User) -> str:
    return "active" if user.disabled_ms is None else "disabled"


def _told(user: User) -> dict[str, Any]:
    """As the API tells administrators."""
    from fiapx.server.auth.views import managed_view

    return managed_view(user).model_dump(mode="json")
