"""Ctrl-C and SIGTERM during work that has to clean up after itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def cancel_on_signals() -> Iterator[threading.Event]:
    """The first signal to end sets the event; a second one interrupts at once. Ignored signals stay ignored."""
    cancelled = threading.Event()
    asked = False

    def stop(_number: int, _frame: Any) -> None:
        nonlocal asked
        if asked:  # the event may be just about to be set, and another `set` would wait for this one
            raise KeyboardInterrupt
        asked = True
        cancelled.set()

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield cancelled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
