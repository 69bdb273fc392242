"""Signals to `fiapx up`: what runs ends or is given back, who waits is told, and it exits in time with 0."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.conftest import FRAMES
from tests.e2e.kit import FIAPX, Account, Server, environment, freeze, get
from tests.processing_kit import eventually


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


def test_a_job_that_outlasts_the_grace_is_given_back_uncharged(numbered: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="0.5") as server:
        ana = server.account()
        job_id = ana.upload(numbered, fps=25, format="png")
        ana.reach(job_id)
        freeze(server.decoders())
        with _watching(ana, job_id, tmp_path) as watch:
            assert watch.stdout is not None
            assert json.loads(watch.stdout.readline())["state"] == "running"
            port, began = server.port, time.monotonic()
            server.terminate()
            assert server.wait() == 0
            assert time.monotonic() - began < 5
            row = server.row(job_id)
            assert (row["state"], row["attempt"], row["failures"]) == ("queued", 1, 0)
            assert server.files() == {f"videos/{row['video_id']}"}
            server.start(port=port)
            assert ana.ended(job_id)["result"]["frames"] == FRAMES
            last = json.loads(watch.communicate(timeout=30)[0].splitlines()[-1])
            assert (watch.returncode, last["state"], last["attempt"]) == (0, "completed", 2)


def test_with_enough_grace_a_job_ends_while_new_requests_are_refused(numbered: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="60") as server:
        ana = server.account()
        job_id = ana.upload(numbered, fps=25, format="png")
        ana.reach(job_id)
        decoders = server.decoders()
        freeze(decoders)
        server.terminate()
        eventually(lambda: get(f"{server.url}/api/v1/health/ready").status_code == 503)
        for _ in range(2):  # the first may have come on a connection from before
            refused = ana.request("GET", f"/jobs/{job_id}")
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
            assert (refused.json()["code"], refused.headers["retry-after"]) == ("unavailable", "5")
        assert get(f"{server.url}/api/v1/health/live").status_code == 200
        freeze(decoders, signal.SIGCONT)
        assert server.wait() == 0
        row = server.row(job_id)
        assert (row["state"], row["attempt"], row["frames"]) == ("completed", 1, FRAMES)
        assert server.files("jobs") == {f"jobs/{job_id}/1.zip"}


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
        assert time.monotonic() - began < 5
        assert not any(decoder.alive() for decoder in decoders)
        row = server.row(job_id)
        assert (row["state"], row["failures"]) == ("queued", 0)


def test_an_idle_server_stops_at_once_and_ends_the_streams_of_those_who_watch(long: Path, tmp_path: Path) -> None:
    with Server(tmp_path, FIAPX_GRACE="60") as server:
        ana = server.account()
        first, second = ana.upload(long, fps=25), ana.upload(long)
        ana.reach(first)
        stream = f"{server.url}/api/v1/jobs/{second}/events"
        with httpx.stream("GET", stream, headers={"Authorization": f"Bearer {ana.token}"}) as events:
            lines = events.iter_lines()
            assert next(lines) == "event: job"
            ana.request("POST", f"/jobs/{first}/cancel").raise_for_status()
            began = time.monotonic()
            for signal_number in range(2):
                server.terminate()
                time.sleep(0.2 * (1 - signal_number))
            assert list(lines)[-1] == ""
        assert server.wait() == 0
        assert time.monotonic() - began < 5


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
