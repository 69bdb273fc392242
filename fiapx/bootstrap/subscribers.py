"""Who gets which events, wherever they run: a broker keeps them from its first use on for each of these."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from fiapx.core.events import USER_DELETED
from fiapx.notify.notifier import EVENTS
from fiapx.server.processing.metrics import TERMINAL_EVENTS

SUBSCRIBERS: Final[Mapping[str, Collection[str]]] = {
    "processing": (USER_DELETED,),
    "metrics": tuple(TERMINAL_EVENTS),  # one queue for all instances of processing: each event is counted once
    "notify": EVENTS,
}
