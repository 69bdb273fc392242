"""`fiapx config`: the settings that are in force."""

from __future__ import annotations

from typing import Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.terminal import Terminal
from fiapx.core.places import settings_file


def config(ctx: typer.Context, as_json: flags.AsJson = False) -> None:
    """Show the settings in force: from the environment, from files that it names, and from the TOML file.

    Secrets are hidden, and passwords in addresses.

    Example: fiapx config
    """
    from fiapx.cli.config import load_settings

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    settings = load_settings()
    values = {f"FIAPX_{name.upper()}": _shown(getattr(settings, name)) for name in type(settings).model_fields}
    for name, value in values.items():
        terminal.say(f"{name}={'' if value is None else value}")
    terminal.note(f"settings file: {settings_file()}{'' if settings_file().exists() else ' (not there)'}")
    terminal.document({"settings": values, "file": str(settings_file())})


def _shown(value: Any) -> Any:
    from pydantic import SecretStr

    from fiapx.settings import HIDDEN, PASSWORD

    if isinstance(value, SecretStr):
        return HIDDEN
    if value is None or isinstance(value, int | float):
        return value
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return PASSWORD.sub(rf"\1:{HIDDEN}", text)
