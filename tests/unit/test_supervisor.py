"""The supervisor of worker processes, with processes that do nothing but listen."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fiapx.worker import supervisor as module
from fiapx.worker.crew import Crew
from fiapx.worker.scaling import Policy
from fiapx.worker.supervisor import Supervisor
from tests.processing_kit import eventually

HARD_OF_HEARING = """
import signal, sys, time
heard = []
def hear(*_):
    heard.append(True)
    if len(heard) == 3:
        sys.exit()
signal.signal(signal.SIGTERM, hear)
print('{"metrics": "http://127.0.0.1:1"}', flush=True)
while True:
    time.sleep(0.01)
"""


def _spawn(_number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HARD_OF_HEARING], stdout=subprocess.PIPE)


def test_a_worker_that_missed_a_signal_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that come at once are one, and its job would be lost with it when it is killed."""
    monkeypatch.setattr(module, "_AGAIN", 0.2)
    crew = Crew(_spawn, 1)
    supervisor = Supervisor(crew, Policy(least=1, most=1, age=10, idle=60), lambda: None, interval=0.05)
    supervisor.start()
    eventually(supervisor.alive)
    (member,) = crew
    supervisor.stop(0)
    assert member.process.returncode == 0
