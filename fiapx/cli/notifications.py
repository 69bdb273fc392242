"""`fiapx notifications`: what became of mails, from the operator's shell. It reads notify's own database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import UsageError

if TYPE_CHECKING:
    from fiapx.notify.history import MailRecord

_STATES = ("pending", "sent", "failed", "skipped")


def notifications(
    ctx: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only pending, sent, failed or skipped mails.",
            autocompletion=lambda: [*_STATES],
        ),
    ] = None,
    recipient: Annotated[str | None, typer.Option("--to", metavar="EMAIL", help="Only mails to this address.")] = None,
    limit: flags.Limit = 20,
    everything: flags.All = False,
    data: flags.Data = None,
    as_json: flags.AsJson = False,
) -> None:
    """List the mails about ended jobs, the newest first: sent, waiting or failed, and why.

    Works on the server's own machine. With --json: each attempt at each mail.

    Example: fiapx notifications --state failed
    """
    from fiapx.bootstrap.books import mail_history
    from fiapx.cli.config import load_settings

    if state not in (None, *_STATES):
        raise UsageError(f"there is no state {state}", hint=f"Choose among {', '.join(_STATES)}.")
    terminal: Terminal = ctx.obj
    terminal.json = as_json
    with mail_history(load_settings(home=data.absolute() if data else None)) as history:
        found = history.mails(
            state=state, recipient=recipient and recipient.lower(), limit=None if everything else limit
        )
    terminal.table(("CREATED", "STATE", "ATTEMPTS", "TO", "JOB", "REASON"), [_row(mail) for mail in found])
    terminal.document({"notifications": [_told(mail) for mail in found]})


def _row(mail: MailRecord) -> tuple[str, ...]:
    created = datetime.fromtimestamp(mail.created_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return created, mail.state, str(len(mail.attempts)), mail.recipient or "-", mail.job_id or "-", mail.reason


def _told(mail: MailRecord) -> dict[str, Any]:
    return {
        "id": mail.id,
        "event": mail.event,
        "job_id": mail.job_id,
        "recipient": mail.recipient,
        "state": mail.state,
        "created_at": _when(mail.created_ms),
        "next_attempt_at": _when(mail.next_attempt_ms),
        "finished_at": _when(mail.finished_ms),
        "attempts": [
            {
                "number": attempt.number,
                "state": attempt.state,
                "error": attempt.error,
                "started_at": _when(attempt.started_ms),
                "ended_at": _when(attempt.ended_ms),
            }
            for attempt in mail.attempts
        ],
    }


def _when(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()
