"""What an examination finds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`hint` says what to do where the status is not ok. `error` is for what does not work as it has to."""

    status: Literal["ok", "warning", "error"]
    detail: str
    hint: str | None = None
