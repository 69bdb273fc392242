"""How a process that serves takes signals."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, subprocess
from threading import Event
from fiapx.cli.serving import _signals

draining, stop, hurry = Event(), Event(), Event()
with _signals(draining, None, stop, hurry):
    kill = f"i=0; while [ $i -lt 3000 ]; do kill -TERM {os.getpid()}; i=$((i+1)); done"
    with subprocess.Popen(["sh", "-c", kill]) as sender:
        while sender.poll() is None:
            for event in (draining, stop, hurry):
                event.wait(0.0001)
                event.set()
assert draining.is_set() and stop.is_set() and hurry.is_set()
print("over")
"""


def test_signals_that_come_at_any_moment_hang_nothing() -> None:
    """Also in the middle of an event's own doings, and of each other's."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "over\n", ran.stderr
