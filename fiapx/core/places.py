"""Where things are kept that are not told otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def settings_file() -> Path:
    """The TOML file of settings, which need not exist: ``FIAPX_SETTINGS``, or ``~/.config/fiapx/settings.toml``."""
    named = os.environ.get("FIAPX_SETTINGS")
    if named:
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "fiapx" / "settings.toml"
