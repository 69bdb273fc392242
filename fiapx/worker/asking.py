"""Questions to a database that may be away for a moment."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

from fiapx.server.sql import AWAY

_PAUSE: Final = 0.5

T = TypeVar("T")


def ask(question: Callable[[], T], cancelled: Event) -> T:
    """The answer. It is asked anew while the database is away, until `cancelled` is set, as it is once the lease is
    over. What is asked again may have been done before, with no answer.

    Raises what `question` raises.
    """
    while True:
        try:
            return question()
        except AWAY:
            if cancelled.wait(_PAUSE):
                raise
