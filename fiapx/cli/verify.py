"""`fiapx verify`: do the books of a service agree with what it stores?"""

from __future__ import annotations

from typing import Annotated

import typer

from fiapx.cli import options as flags
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import Inconsistent


def verify(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Look whether objects are there, in their sizes.")] = False,
    as_json: flags.AsJson = False,
) -> None:
    """Prove that nothing is lost: every row has its object, whole, and every accepted job one end.

    Reads the database and the storage of the service itself, as FIAPX_* settings name them, and changes
    nothing. The service may be at work. The exit code is 1 if anything is wrong.

    Example: fiapx verify --json
    """
    from fiapx.bootstrap.books import auditing
    from fiapx.cli.config import load_settings

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    with auditing(load_settings(), quick=quick) as audit, terminal.progress("verifying") as advance:
        report = audit.run(advance)
    for fault in report.faults:
        terminal.say(f"{fault.kind}: {fault.subject}: {fault.text}")
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.jobs.items()))
    accepted = sum(report.jobs.values())
    terminal.say(f"{report.videos} videos, {accepted} jobs accepted ({states or 'none'}), {report.objects} objects")
    terminal.document(report.as_dict())
    if report.faults:
        raise Inconsistent(f"{len(report.faults)} things are not as the books say")
    terminal.say("all is as the books say")
