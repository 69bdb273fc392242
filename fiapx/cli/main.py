"""The command `fiapx`: all its commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from typer.exceptions import TyperException

import fiapx
from fiapx.cli import account, jobs, local, roles, run, transfer
from fiapx.cli.configuration import config
from fiapx.cli.db import db
from fiapx.cli.dead import dead
from fiapx.cli.doctor import doctor
from fiapx.cli.failures import ReaderGone
from fiapx.cli.help import PlainGroup
from fiapx.cli.notifications import notifications
from fiapx.cli.probe import probe
from fiapx.cli.selection import LenientCommand
from fiapx.cli.terminal import Terminal
from fiapx.cli.users import users
from fiapx.cli.verify import verify
from fiapx.core.errors import Cancelled, Exit, FiapxError, UsageError

commands = typer.Typer(
    name="fiapx",
    cls=PlainGroup,
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 4 log in first, 5 try again later, 6 some inputs failed, "
    "124 wait timed out, 130 interrupted.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Local": (local.extract, probe, doctor),
    "Account": (account.register, account.login, account.logout, account.whoami, account.passwd, account.email),
    "Jobs": (
        transfer.upload,
        transfer.submit,
        jobs.jobs,
        jobs.show,
        jobs.watch,
        transfer.download,
        jobs.cancel,
        jobs.retry,
        jobs.delete,
        jobs.videos,
    ),
    "Server": (run.up, roles.serve, roles.worker, roles.notify, config, verify, notifications),
}
for _panel, _functions in _PANELS.items():
    for _function in _functions:
        commands.command(cls=LenientCommand, rich_help_panel=_panel)(_function)
commands.add_typer(db, rich_help_panel="Server")
commands.add_typer(dead, rich_help_panel="Server")
commands.add_typer(users, rich_help_panel="Server")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fiapx {fiapx.__version__}")
        raise typer.Exit


@commands.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Videos in, ZIPs of frames out: on this machine, or by a server."""


def app(args: Sequence[str] | None = None, terminal: Terminal | None = None) -> int:
    """Run one command line; returns the exit code. Without arguments: the process's own."""
    terminal = terminal or Terminal.of_process()
    argv = list(sys.argv[1:] if args is None else args)
    terminal.json = "--json" in argv  # for errors that come before a command has read its flags
    try:
        return _run(argv, terminal)
    except FiapxError as error:
        _last_words(terminal, error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except ReaderGone:
        _silence(terminal)
        return Exit.FAILED  # nobody reads on, so not all of it arrived: a pipeline must be able to tell
    except Exception as error:  # noqa: BLE001 - the last resort: users get a line, not a traceback
        if terminal.environ.get("FIAPX_DEBUG"):
            terminal.note("".join(traceback.format_exception(error)))
        hint = "Set FIAPX_DEBUG=1 for details, and please report it."
        _last_words(terminal, FiapxError(f"internal error ({type(error).__name__})", hint=hint))
        return Exit.FAILED


def _run(argv: list[str], terminal: Terminal) -> int:
    command = typer.main.get_command(commands)
    try:
        code = command.main(argv or ["--help"], prog_name="fiapx", standalone_mode=False, obj=terminal)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "fiapx"
        raise UsageError(error.format_message(), hint=f"See `{where} --help`.") from None
    if code == Exit.INTERRUPTED and terminal.json and not terminal.answered:
        raise Cancelled("interrupted")
    terminal.flush()
    return int(code or Exit.OK) if argv else Exit.USAGE


def _last_words(terminal: Terminal, error: FiapxError) -> None:
    """The error, on whichever streams still work."""
    try:
        terminal.error(error)
        terminal.flush()
    except (ReaderGone, FiapxError):
        _silence(terminal)


def _silence(terminal: Terminal) -> None:
    """Let Python's own flush at exit go nowhere instead of failing again."""
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, terminal.stdout.fileno())
        os.close(descriptor)
