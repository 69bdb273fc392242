"""`kill -9` in the middle of jobs: none is lost, none comes twice, nothing stays behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import FRAMES, NUMBERED
from tests.e2e.kit import Account, Server, quickly, run
from tests.e2e.processes import Process
from tests.faults.table import Observed
from tests.media.clips import read_number
from tests.processing_kit import eventually

JOBS = int(os.environ.get("FIAPX_KILLS", "10"))


def _killed(server: Server) -> None:
    decoders = server.kill()
    assert decoders, "nothing was being decoded"
    quickly(lambda: not any(map(Process.alive, decoders)), within=10)


WIDTH = 640
"""Pixels: with pictures this large, a job takes long enough to be killed in it."""
FLAGS = ("--fps", "25", "--format", "png", "--width", str(WIDTH), "--upscale")


def _expected(video: Path, folder: Path) -> str:
    """The hash of the ZIP that nobody disturbed."""
    done = run(folder, "extract", video, *FLAGS, "-o", "undisturbed.zip", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["results"][0]["sha256"])


def _is_whole(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        frames = [name for name in archive.namelist() if name.startswith("frame_")]
        assert len(frames) == FRAMES
        for number in (0, 1, FRAMES // 2, FRAMES - 1):
            assert read_number(archive.read(frames[number]), scale=NUMBERED.size[0] / WIDTH) == number


@pytest.mark.fault(5, f"SIGKILL in each of {JOBS} jobs")
@pytest.mark.timeout(300)
def test_jobs_survive_a_kill_in_each(numbered: Path, tmp_path: Path) -> None:
    sha256 = _expected(numbered, tmp_path)
    with Server(tmp_path) as server:
        ana = server.account()
        jobs = []
        for turn in range(JOBS):
            jobs.append(ana.upload(numbered, fps=25, format="png", width=WIDTH, upscale=True, fresh=True))
            ana.reach(jobs[-1], frames=1 + FRAMES // 4 * turn // JOBS)
            _killed(server)
            assert server.row(jobs[-1])["state"] == "running"
            server.start()
        for job_id in jobs:
            job = ana.ended(job_id)
            assert (job["state"], job["attempt"], job["warnings"]) == ("completed", 2, [])
            assert (job["result"]["frames"], job["result"]["sha256"]) == (FRAMES, sha256)
        assert server.files("jobs") == {f"jobs/{job_id}/2.zip" for job_id in jobs}
        videos = {f"videos/{ana.job(job_id)['video']['id']}" for job_id in jobs}
        assert server.files() == server.files("jobs") | videos
        for job_id in jobs:
            content = (server.home / "storage" / "jobs" / job_id / "2.zip").read_bytes()
            assert hashlib.sha256(content).hexdigest() == sha256
        _is_whole(ana.request("GET", f"/jobs/{jobs[-1]}/result").content)
        _told_once(server, ana, jobs)


def _told_once(server: Server, ana: Account, jobs: list[str]) -> None:
    """One terminal event a job, whatever was repeated: one mail each in the log, to the account's address."""
    eventually(lambda: len(server.logged("mail_queued")) >= len(jobs))
    assert sorted(line["job_id"] for line in server.logged("mail_queued")) == sorted(jobs)


@pytest.mark.fault(9, "SIGKILL in every attempt")
def test_a_job_that_is_killed_on_every_attempt_fails(long: Path, tmp_path: Path, observed: Observed) -> None:
    with Server(tmp_path) as server:
        ana = server.account()
        job_id = ana.upload(long, fps=25)
        for attempt in (1, 2, 3):
            ana.reach(job_id, attempt=attempt)
            _killed(server)
            server.start()
        with observed.recovery():
            job = ana.ended(job_id)
        assert (job["state"], job["attempt"], job["error"]["code"]) == ("failed", 3, "crash_loop")
        assert [attempt["outcome"] for attempt in job["attempts"]] == ["lost", "lost", "failed"]
        assert len({attempt["worker"] for attempt in job["attempts"]}) == 3, "each a process of its own"
        assert server.files() == {f"videos/{job['video']['id']}"}
        assert not server.decoders()
        watched = ana.run(tmp_path, "watch", job_id, "--json")
        assert watched.returncode == 1
        assert json.loads(watched.stdout)["error"]["code"] == "crash_loop"
    observed.says("failed (crash_loop) after three attempts")


@pytest.mark.fault(1, "SIGKILL in the middle of a body, the client does not come back")
def test_an_upload_that_is_cut_by_a_kill_leaves_nothing(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        ana = server.account()

        def body() -> Iterator[bytes]:
            yield bytes(1 << 20)
            eventually(lambda: any(name.startswith("tmp/") for name in server.files()))
            server.kill()
            while True:
                yield bytes(1 << 20)

        with pytest.raises(httpx.TransportError):
            ana.request("POST", "/videos?name=cut.mp4", content=body())
        assert len(server.files("tmp")) == 1
        server.start()
        assert server.files() == set()
        assert ana.get("/videos")["items"] == []


_DYING = """
import os, signal
from fiapx.media.process import spawn
print(spawn("fiapx.media.launch", ["100", "/bin/sleep", "30"]).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_decoder_that_is_just_starting_ends_too() -> None:
    """Its parent is dead before it can ask the kernel to be told of that."""
    dying = subprocess.run([sys.executable, "-c", _DYING], stdout=subprocess.PIPE, text=True, timeout=30)
    child = Process.of(int(dying.stdout))
    quickly(lambda: child is None or not child.alive(), within=20)


@pytest.mark.fault(6, "SIGKILL of the decoder alone")
def test_a_decoder_that_is_killed_costs_an_attempt_alone(numbered: Path, tmp_path: Path, observed: Observed) -> None:
    with Server(tmp_path) as server:
        ana = server.account()
        job_id = ana.upload(numbered, fps=25, format="png", width=WIDTH, upscale=True)
        ana.reach(job_id)
        for decoder in server.decoders():
            os.kill(decoder.pid, signal.SIGKILL)
        with observed.recovery():
            job = ana.ended(job_id)
        assert (job["state"], job["attempt"], job["result"]["frames"]) == ("completed", 2, FRAMES)
        assert server.files("jobs") == {f"jobs/{job_id}/2.zip"}
    observed.says("completed by attempt 2")
