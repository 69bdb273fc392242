"""Which versions of other servers this program works with."""

from __future__ import annotations

import re
from typing import Final, Literal

from fiapx.core.errors import UsageError

Server = Literal["PostgreSQL", "RabbitMQ", "Redis"]

_OLDEST: Final[dict[Server, tuple[int, int]]] = {"PostgreSQL": (15, 0), "RabbitMQ": (3, 10), "Redis": (7, 0)}


def require(server: Server, version: str | None) -> None:
    """Raises UsageError for a version that is too old. One that is not told, or begins with no number, is let pass."""
    told = re.match(r"(\d+)(?:\.(\d+))?", version or "")
    if told is not None and (int(told[1]), int(told[2] or 0)) < _OLDEST[server]:
        oldest = ".".join(map(str, _OLDEST[server])).removesuffix(".0")
        raise UsageError(f"{server} {version} is too old", hint=f"fiapx works with {server} {oldest} or newer.")
