"""Words for people: counts and times; and file names out of names that somebody else chose."""

from __future__ import annotations

from pathlib import PurePosixPath

from fiapx.core.text import visible

_MAX_NAME = 200


def safe_stem(name: str) -> str:
    """A file name without extension from a name that a server sent; it can only name a file in one folder.

    Empty when nothing usable is left.
    """
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(char for char in base if visible(char) == char and char not in '<>:"|?*')
    stem = PurePosixPath(kept).stem.strip(" .")
    return stem.encode()[:_MAX_NAME].decode(errors="ignore")


def plural(count: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """``45 s``, ``2 min``, ``1 h 5 min``."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
