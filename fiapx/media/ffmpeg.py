"""Which FFmpeg: the one that is named, the one on PATH if it is new enough, else the one in imageio-ffmpeg's wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from fiapx.core.errors import FFmpegMissing

MINIMUM: Final = (5, 1)
_UNKNOWN: Final = (999, 0)
"""Development builds carry no version number; they are taken for new."""


@dataclass(frozen=True)
class FFmpeg:
    """A usable FFmpeg."""

    path: Path
    version: str
    numbers: tuple[int, int]


def find_ffmpeg(named: Path | None = None) -> FFmpeg:
    """The FFmpeg to use. `named` must work if it is given. Raises FFmpegMissing."""
    if named is not None:
        return _usable(named)
    if on_path := shutil.which("ffmpeg"):
        try:
            return _usable(Path(on_path))
        except FFmpegMissing:
            return _usable(_bundled())
    return _usable(_bundled())


def _bundled() -> Path:
    import imageio_ffmpeg

    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise FFmpegMissing(hint="Install FFmpeg 5.1 or newer, or point FIAPX_FFMPEG at it.") from None


@lru_cache(maxsize=8)
def _usable(path: Path) -> FFmpeg:
    try:
        banner = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        raise FFmpegMissing(f"{path} does not run.", hint="Point FIAPX_FFMPEG at an FFmpeg 5.1 or newer.") from None
    found = re.match(r"ffmpeg version (\S+)", banner)
    version = found.group(1) if found else "unknown"
    release = re.match(r"n?(\d+)\.(\d+)", version)
    numbers = (int(release.group(1)), int(release.group(2))) if release else _UNKNOWN
    if numbers < MINIMUM:
        raise FFmpegMissing(f"{path} is FFmpeg {version}; 5.1 or newer is needed.", hint="Set FIAPX_FFMPEG.")
    return FFmpeg(path, version, numbers)
