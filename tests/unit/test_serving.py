"""How a process that serves starts, and takes signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from scripts.servers.process import free_port
from tests.processing_kit import eventually

HEALTH = "/api/v1/health"
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


def test_a_role_without_its_database_lives_is_not_ready_and_takes_no_request(tmp_path: Path) -> None:
    port, metrics, nobody = free_port(), free_port(), f"127.0.0.1:{free_port()}"
    env = {
        "FIAPX_HOME": str(tmp_path),
        "FIAPX_PROCESSING_DATABASE_URL": f"postgresql://fiapx:x@{nobody}/processing",
        "FIAPX_REDIS_URL": f"redis://{nobody}/0",
        "FIAPX_RABBITMQ_URL": f"amqp://{nobody}/",
        "FIAPX_AUTH_URLS": f"http://{nobody}",
        "FIAPX_METRICS_PORT": str(metrics),
    }
    command = [sys.executable, "-m", "fiapx", "serve", "processing", "--port", str(port)]
    with subprocess.Popen(command, env=os.environ | env, stderr=subprocess.PIPE, text=True) as role:
        try:
            assert role.stderr is not None
            assert any("waiting_for_database" in line for line in role.stderr)
            eventually(lambda: status(metrics, "live") == 200)
            assert status(metrics, "ready") == 503
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5)
        finally:
            role.send_signal(signal.SIGTERM)
    assert role.returncode is not None


def status(port: int, question: str) -> int:
    return httpx.get(f"http://127.0.0.1:{port}{HEALTH}/{question}", timeout=10).status_code
