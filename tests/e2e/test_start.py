"""`fiapx up`: first start, second start, and what keeps it from starting."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

from tests.e2e.kit import FIAPX, Server, environment, get, run
from tests.e2e.processes import Process


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_makes_private_data_and_is_ready(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        at_start = Process.of(server.pid)
        assert at_start is not None
        assert at_start.cpu_seconds < 3  # the time on the clock depends on what else this machine does
        assert get(f"{server.url}/api/v1/health/ready").status_code == 200
        health = get(f"{server.url}/api/v1/health/all").json()
        assert {check["status"] for check in health["checks"].values()} == {"ok"}
        assert {"database-auth", "database-processing", "database-notify", "worker"} <= set(health["checks"])
        assert _mode(server.home) == 0o700
        assert _mode(server.home / "secret.key") == 0o600
        secret = (server.home / "secret.key").read_text()
        token = server.account().token
        server.terminate()
        assert server.wait() == 0
        server.start()
        assert (server.home / "secret.key").read_text() == secret
        me = get(f"{server.url}/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == 200  # the keys outlive a restart
        assert secret not in server.log()


def test_a_second_server_on_the_same_data_is_refused(server: Server) -> None:
    second = run(server.folder, "up", "--port", "0", "--json")
    assert second.returncode == 1
    error = json.loads(second.stdout)["error"]
    assert error["code"] == "already_running"
    assert str(server.pid) in error["message"]
    assert get(f"{server.url}/api/v1/health/ready").status_code == 200


def test_a_port_in_use_is_a_mistake_of_usage(server: Server, tmp_path: Path) -> None:
    other = run(tmp_path, "up", "--port", str(server.port), "--json")
    assert other.returncode == 2
    assert json.loads(other.stdout)["error"]["code"] == "usage"
    assert "Traceback" not in other.stderr
    assert not (tmp_path / "data").exists()


def test_unusable_data_is_a_mistake_of_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for data in ("file", "file/below"):
        done = run(tmp_path, "up", "--port", "0", "--data", data)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("fiapx: error: cannot keep data in ")
        assert len(done.stderr.splitlines()) == 2


def test_the_ready_line_is_for_people_without_json(tmp_path: Path) -> None:
    """The line comes at once although standard output is a pipe."""
    with subprocess.Popen(
        [str(FIAPX), "up", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("fiapx is ready at http://127.0.0.1:")
        assert os.fspath(tmp_path / "data") in line
        process.terminate()
        assert process.wait(20) == 0
