"""Passwords come from a prompt or from standard input, never from the command line."""

from __future__ import annotations

from getpass import getpass

from fiapx.cli.terminal import Terminal
from fiapx.core.errors import UsageError

_LONGEST = 8192


def read_password(terminal: Terminal, prompt: str, *, stdin: bool, twice: bool = False) -> str:
    """One password. With `stdin` it is the next line there, without its newline; else the user is asked.

    Raises UsageError where there is nobody to ask.
    """
    password = _line(terminal) if stdin else _ask(terminal, prompt, twice=twice)
    if not password:
        raise UsageError("the password is empty")
    return password


def _line(terminal: Terminal) -> str:
    try:
        line = terminal.stdin.readline(_LONGEST)
    except UnicodeDecodeError:
        raise UsageError("the password on standard input is not UTF-8") from None
    if any("\udc80" <= char <= "\udcff" for char in line):
        raise UsageError("the password on standard input is not UTF-8")
    return line.removesuffix("\n").removesuffix("\r")


def _ask(terminal: Terminal, prompt: str, *, twice: bool) -> str:
    if not terminal.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password", hint="Give --password-stdin.")
    password = getpass(f"{prompt}: ", stream=terminal.stderr)
    if twice and getpass(f"{prompt} (again): ", stream=terminal.stderr) != password:
        raise UsageError("the passwords differ")
    return password
