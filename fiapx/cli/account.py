"""`register`, `login`, `logout`, `whoami`, `passwd`, `email`."""

from __future__ import annotations

from typing import Annotated

import typer

from fiapx.cli import options as flags
from fiapx.cli.passwords import read_password
from fiapx.cli.session import session
from fiapx.core.text import visible


def register(
    ctx: typer.Context,
    email: flags.Email,
    password_stdin: flags.PasswordStdin = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """Create an account.

    Example: echo "$PW" | fiapx register ada@example.org --password-stdin
    """
    with session(ctx, server, as_json) as (terminal, api):
        api.check_secure()
        password = read_password(terminal, "Password", stdin=password_stdin, twice=True)
        account = api.post("/auth/register", {"email": email, "password": password}, anonymous=True)
        terminal.say(f"registered {visible(account['email'])}; log in with: fiapx login {visible(email)}")
        terminal.document(account)


def login(
    ctx: typer.Context,
    email: flags.Email,
    password_stdin: flags.PasswordStdin = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """Log in; the profile remembers it.

    Example: fiapx login ada@example.org
    """
    with session(ctx, server, as_json) as (terminal, api):
        api.check_secure()
        api.login(email, read_password(terminal, "Password", stdin=password_stdin))
        terminal.say(f"logged in to {api.server} as {visible(email)}")
        if terminal.environ.get("FIAPX_TOKEN"):
            terminal.warn("FIAPX_TOKEN is set, and commands use it instead of this log-in")
        terminal.document({"server": api.server, "email": email})


def logout(ctx: typer.Context, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """End the session, on the server and here.

    Example: fiapx logout
    """
    with session(ctx, server, as_json) as (terminal, api):
        api.logout()
        terminal.say("logged out")
        terminal.document({"server": api.server})


def whoami(ctx: typer.Context, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """Show the account you are logged in to.

    Example: fiapx whoami
    """
    with session(ctx, server, as_json) as (terminal, api):
        account = api.get("/auth/me")
        terminal.say(visible(account["email"]))
        terminal.document(account | {"server": api.server})


def passwd(
    ctx: typer.Context,
    password_stdin: flags.PasswordStdin = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """Change your password; your other sessions end.

    With --password-stdin: two lines, the old password and the new one.

    Example: printf '%s\\n' "$OLD" "$NEW" | fiapx passwd --password-stdin
    """
    with session(ctx, server, as_json) as (terminal, api):
        api.check_secure()
        current = read_password(terminal, "Current password", stdin=password_stdin)
        new = read_password(terminal, "New password", stdin=password_stdin, twice=True)
        api.post("/auth/password", {"current_password": current, "new_password": new})
        terminal.say("password changed")
        terminal.document({"changed": True})


def email(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="EMAIL", help="The new address.", show_default=False)],
    password_stdin: flags.PasswordStdin = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """Change your e-mail address; all sessions end, and this one is opened again.

    Example: fiapx email ada@example.net
    """
    with session(ctx, server, as_json) as (terminal, api):
        api.check_secure()
        password = read_password(terminal, "Password", stdin=password_stdin)
        account = api.patch("/auth/me", {"email": address, "password": password})
        terminal.say(f"your address is {visible(account['email'])} now")
        if terminal.environ.get("FIAPX_TOKEN"):
            terminal.warn("the session of FIAPX_TOKEN has ended; set a new one")
        else:
            api.login(account["email"], password)
        terminal.document(account)
