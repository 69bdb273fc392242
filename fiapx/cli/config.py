"""Settings for commands: the one place where the command line reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiapx.core.errors import UsageError
from fiapx.core.places import settings_file

if TYPE_CHECKING:
    from fiapx.media.model import Limits
    from fiapx.settings import Settings


def load_settings(**flags: Any) -> Settings:
    """The settings of this process; flags that were given win. Raises UsageError naming the variable that is wrong."""
    from pydantic import ValidationError  # slow to import, and `fiapx --help` needs none of it

    from fiapx.core.options import explain
    from fiapx.settings import Settings

    if os.environ.get("FIAPX_SETTINGS") and not settings_file().is_file():
        raise UsageError(f"FIAPX_SETTINGS: there is no file {settings_file()}")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        names = ", ".join(sorted({f"FIAPX_{str(item['loc'][0]).upper()}" for item in error.errors() if item["loc"]}))
        raise UsageError(f"{names}: {explain(error)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the settings: {error}") from None


def engine_settings() -> tuple[Limits, Path | None]:
    """What one video may cost, and the FFmpeg to use. Raises UsageError."""
    from fiapx.media.model import Limits

    if not any(name.upper().startswith("FIAPX_") for name in os.environ) and not settings_file().exists():
        return Limits(), None  # as by default, without loading what reads settings
    settings = load_settings()
    limits = Limits(settings.max_frames, settings.max_pixels, settings.max_output_bytes, settings.job_timeout)
    return limits, settings.ffmpeg
