"""Signals to `fiapx up`: what runs ends or is given back, who waits is told, and it exits in time with 0."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import FRAMES
from tests.e2e.kit import FIAPX, Account, Server, environment, freeze, get
from tests.processing_kit import eventually

WIDTH = 960
"""Of a picture that takes long enough for a job to be met while it runs, on any machine."""


@contextmanager
def _watching(ana: Account, job_id: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [str(FIAPX), "watch", job_id, "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment(folder, **ana.environ)
    ) as watch:
        try:
            yield watch
        finally:
            watch.kill()


@pytest.mark.fault(10, "SIGTERM, a job that takes longer than the grace time")
def test_a_job_that_outlasts_the_grace_is_given_back_uncharged(numbered: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="0.5") as server:
        ana = server.account()
        job_id = ana.upload(numbered, fps=25, format="png", width=WIDTH, upscale=True)
        ana.reach(job_id)
        freeze(server.decoders())
        with _watching(ana, job_id, tmp_path) as watch:
            assert watch.stdout is not None
            assert json.loads(watch.stdout.readline())["state"] == "running"
            port, began = server.port, time.monotonic()
            server.terminate()
            assert server.wait() == 0
            assert time.monotonic() - began < 30
            row = server.row(job_id)
            assert (row["state"], row["attempt"], row["failures"]) == ("queued", 1, 0)
            assert server.files() == {f"videos/{row['video_id']}"}
            server.start(port=port)
            assert ana.ended(job_id)["result"]["frames"] == FRAMES
            last = json.loads(watch.communicate(timeout=30)[0].splitlines()[-1])
            assert (watch.returncode, last["state"], last["attempt"]) == (0, "completed", 2)


@pytest.mark.fault(10, "SIGTERM, a job that ends in time")
def test_with_enough_grace_a_job_ends_while_new_requests_are_refused(numbered: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="60") as server:
        ana = server.account()
        job_id = ana.upload(numbered, fps=25, format="png", width=WIDTH, upscale=True)
        ana.reach(job_id)
        decoders = server.decoders()
        freeze(decoders)
        server.terminate()
        eventually(lambda: get(f"{server.url}/api/v1/health/ready").status_code == 503)
        time.sleep(0.5)  # it goes on, rather than being a moment on the way out
        for _ in range(2):  # the first may have come on a connection from before
            refused = ana.request("GET", f"/jobs/{job_id}")
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
            assert (refused.json()["code"], refused.headers["retry-after"]) == ("unavailable", "1")
        assert get(f"{server.url}/api/v1/health/live").status_code == 200
        freeze(decoders, signal.SIGCONT)
        assert server.wait() == 0
        row = server.row(job_id)
        assert (row["state"], row["attempt"], row["frames"]) == ("completed", 1, FRAMES)
        assert server.files("jobs") == {f"jobs/{job_id}/1.zip"}


@pytest.mark.fault(11, "SIGTERM twice")
def test_a_second_signal_stops_at_once(long: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="60") as server:
        ana = server.account()
        job_id = ana.upload(long, fps=25)
        ana.reach(job_id)
        decoders = server.decoders()
        server.terminate()
        eventually(lambda: get(f"{server.url}/api/v1/health/ready").status_code == 503)
        assert server.row(job_id)["state"] == "running"
        began = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        assert time.monotonic() - began < 30
        assert not any(decoder.alive() for decoder in decoders)
        row = server.row(job_id)
        assert (row["state"], row["failures"]) == ("queued", 0)


@contextmanager
def _uploading(ana: Account, port: int) -> Iterator[socket.socket]:
    """A request whose body has begun to arrive: 2 of 4 bytes."""
    head = f"POST /api/v1/videos?name=a.mp4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ana.token}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(f"{head}Content-Length: 4\r\n\r\nab".encode())
        yield client


@pytest.mark.fault(12, "SIGTERM during an upload that goes on")
def test_an_upload_that_has_begun_may_end(tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="60") as server:
        ana = server.account()
        with _uploading(ana, server.port) as client:
            eventually(lambda: len(server.files("tmp")) == 1)
            server.terminate()
            time.sleep(0.5)
            client.sendall(b"cd")
            assert client.recv(4096).startswith(b"HTTP/1.1 201 ")
        assert server.wait() == 0
        assert len(server.files("videos")) == len(server.files()) == 1


@pytest.mark.fault(12, "SIGTERM during an upload that hangs")
@pytest.mark.parametrize(("grace", "signals"), [("60", 2), ("1", 1)])
def test_no_upload_is_waited_for_in_a_hurry_or_past_the_grace(tmp_path: Path, grace: str, signals: int) -> None:
    with Server(tmp_path, FIAPX_GRACE=grace) as server:
        ana = server.account()
        with _uploading(ana, server.port):
            eventually(lambda: len(server.files("tmp")) == 1)
            began = time.monotonic()
            for _ in range(signals):
                server.terminate()
                time.sleep(0.5)
            assert server.wait() == 0
            assert time.monotonic() - began < 30
        assert server.files() == set()
        assert "Traceback" not in server.log()
        assert not [line for line in server.log().splitlines() if '"level": "error"' in line]


def test_event_streams_end_at_the_first_signal(numbered: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="60") as server:
        ana = server.account()
        job_id = ana.upload(numbered, fps=25, format="png", width=WIDTH, upscale=True)
        ana.reach(job_id)
        decoders = server.decoders()
        freeze(decoders)
        stream = f"{server.url}/api/v1/jobs/{job_id}/events"
        with httpx.stream("GET", stream, headers={"Authorization": f"Bearer {ana.token}"}, trust_env=False) as events:
            lines = events.iter_lines()
            assert next(lines) == "event: job"
            began = time.monotonic()
            server.terminate()
            assert list(lines)[-1] == ""
            assert time.monotonic() - began < 30
        assert server.row(job_id)["state"] == "running"
        freeze(decoders, signal.SIGCONT)
        assert server.wait() == 0
        assert server.row(job_id)["state"] == "completed"


@pytest.mark.fault(29, "a cancel while the decoder works")
def test_cancelling_stops_the_decoder(server: Server, ana: Account, long: Path, tmp_path: Path) -> None:
    job_id = ana.upload(long, fps=25)
    ana.reach(job_id)
    decoders = [process for process in server.decoders() if "fiapx.media" in process.command()]
    assert decoders
    done = ana.run(tmp_path, "cancel", job_id)
    began = time.monotonic()
    assert (done.returncode, done.stdout) == (0, f"{job_id}: cancelled\n")
    eventually(lambda: not any(decoder.alive() for decoder in decoders), timeout=2)
    assert time.monotonic() - began < 2
    job = ana.job(job_id)
    assert (job["state"], job["attempt"], job["result"]) == ("cancelled", 1, None)
    eventually(lambda: not server.files("tmp"), timeout=2)
    assert not server.files(f"jobs/{job_id}")
    again = ana.run(tmp_path, "cancel", job_id, "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["results"][0]["error"]["code"] == "job_finished"
