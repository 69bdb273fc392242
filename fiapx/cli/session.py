"""How a client command begins: its terminal and its server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import typer

from fiapx.cli.terminal import Terminal

if TYPE_CHECKING:
    from fiapx.cli.api import Api


@contextmanager
def session(ctx: typer.Context, server: str | None, as_json: bool) -> Iterator[tuple[Terminal, Api]]:
    """The terminal and an open client of the server that the flags, the environment and the profile name."""
    from fiapx.cli.api import Api  # httpx takes longer to import than `fiapx --help` may run

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    with Api.open(server, terminal.environ) as api:
        yield terminal, api


def at(kind: str, id_: str, rest: str = "") -> str:
    """The path of a thing; an id that a user mistyped cannot name another path."""
    return f"/{kind}/{quote(id_, safe='') or '-'}{rest}".replace("/..", "/%2E%2E")
