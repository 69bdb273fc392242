"""Which keys objects may have."""

from __future__ import annotations

import re
from typing import Final

from fiapx.core.errors import NotFound

TEMPORARY: Final = "tmp"
"""The first part of no key: where a folder keeps what is being written."""

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


def checked(key: str) -> str:
    """The key. Keys are ours alone, so a strange one is a bug, or somebody who tries. Raises NotFound."""
    parts = key.split("/")
    if parts[0] == TEMPORARY or not all(_PART.fullmatch(part) for part in parts):
        raise NotFound
    return key
