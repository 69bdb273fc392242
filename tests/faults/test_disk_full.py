"""A disk that runs full: told as no_space, nothing lost, and over once there is room again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.kit import Account, Server, get
from tests.faults.table import Observed
from tests.media.clips import X264, Clip, ffmpeg

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More frames than any test waits for."""
    folder = tmp_path_factory.mktemp("clips")
    path = folder / "long.mp4"
    short = Clip("short.mp4", X264, frames=600).make(folder)
    ffmpeg("-stream_loop", "9", "-i", str(short), "-c", "copy", str(path))
    return path


@contextmanager
def _mounted(folder: Path, size: str) -> Iterator[Path]:
    """A new folder that is a file system of this size."""
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """``tmp_path/data`` on a file system of 40 MiB."""
    with _mounted(tmp_path / "data", "40m") as home:
        yield home


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files, of 1 MiB."""
    with _mounted(tmp_path / "scratch", "1m") as folder:
        yield folder


def fill(filler: Path) -> None:
    """Take what is left of the disk."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def _send(account: Account, size: int) -> int:
    headers = {"Content-Type": "video/mp4"}
    return account.request("POST", "/videos", content=b"x" * size, headers=headers).status_code


@pytest.mark.fault(27, "a store of 40 MiB, full")
def test_uploads_end_before_the_databases_suffer(small_disk: Path, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        ana = server.account()
        assert _send(ana, 1000) == 201
        kept = server.files()
        assert _send(ana, 39 * MIB) == 503
        assert server.files() == kept
        codes = [_send(ana, 5 * MIB) for _ in range(8)]
        assert codes.count(201) >= 2
        assert codes[-1] == 503
        assert len(ana.get("/videos")["items"]) == len(server.files("videos")) == 1 + codes.count(201)
        assert server.account().get("/auth/me")  # room is left for rows
        assert get(f"{server.url}/api/v1/health/ready").status_code == 503


def test_a_resumable_upload_goes_on_once_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    filler, size = tmp_path / "data" / "filler", 12 * MIB
    filler.write_bytes(bytes(13 * MIB))
    content, tus = os.urandom(size), {"Tus-Resumable": "1.0.0"}
    with Server(tmp_path) as server:
        ana = server.account()
        upload_id = ana.request("POST", "/uploads", headers={**tus, "Upload-Length": str(size)}).json()["id"]

        def send(start: int) -> httpx.Response:
            own = {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
            return ana.request("PATCH", f"/uploads/{upload_id}", headers=tus | own, content=content[start:])

        assert send(0).status_code == 503
        kept = int(ana.get(f"/uploads/{upload_id}")["offset"])
        assert 0 < kept < size
        filler.unlink()
        ended = send(kept)
        assert ended.status_code == 204, ended.text
        video = ana.get(f"/videos/{ended.headers['fiapx-video-id']}")
        assert video["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_full_database_is_told_and_survives(small_disk: Path, tmp_path: Path) -> None:
    filler = small_disk / "filler"
    with Server(tmp_path) as server:
        ana = server.account()
        assert _send(ana, 1000) == 201
        video = ana.get("/videos")["items"][0]["id"]
        fill(filler)
        codes = {ana.request("POST", "/jobs", json={"video_id": video}).status_code for _ in range(20)}
        assert codes <= {201, 503}
        assert 503 in codes
        assert ana.get("/videos")["items"][0]["id"] == video
        server.kill()
        server.start()
        assert ana.get("/videos")["items"][0]["id"] == video
        filler.unlink()
        again = ana.request("POST", "/jobs", json={"video_id": video})
        assert again.status_code == 201
        assert ana.ended(again.json()["id"])["error"]["code"] == "unsupported_format"


def test_a_server_killed_at_work_starts_on_a_full_disk(small_disk: Path, tmp_path: Path, long: Path) -> None:
    filler = small_disk / "filler"
    with Server(tmp_path, FIAPX_LEASE="4", FIAPX_HEARTBEAT="1", FIAPX_REAPER_INTERVAL="0.5") as server:
        ana = server.account()
        job_id = ana.upload(long, fps=25)
        ana.reach(job_id)
        server.kill()
        fill(filler)
        server.start()
        assert ana.job(job_id)["state"] == "running"
        assert server.logged("recovery_postponed")
        filler.unlink()
        ana.reach(job_id, attempt=2)


def test_jobs_wait_for_room_uncharged(small_disk: Path, tmp_path: Path) -> None:
    clip, filler = Clip("clip.mp4", X264).make(tmp_path), small_disk / "filler"
    with Server(tmp_path) as server:
        ana = server.account()
        video = ana.job(ana.upload(clip))["video"]["id"]
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 8 * MIB))  # the databases go on
        asked = ana.request("POST", "/jobs", json={"video_id": video, "options": {"fps": 3}})
        assert asked.status_code == 201
        time.sleep(2)
        assert ana.job(asked.json()["id"])["state"] == "queued"
        filler.unlink()
        assert ana.ended(asked.json()["id"])["state"] == "completed"
        assert ana.job(asked.json()["id"])["attempt"] == 1


@pytest.mark.lengthy
@pytest.mark.fault(26, "the FFmpeg engine's temporary folder of 1 MiB, full")
def test_a_full_temporary_folder_fails_its_own_jobs_alone(scratch: Path, tmp_path: Path, observed: Observed) -> None:
    clip, filler = Clip("clip.mp4", X264).make(tmp_path), scratch / "filler"
    with Server(tmp_path, TMPDIR=str(scratch)) as server:
        ana = server.account()
        assert ana.ended(ana.upload(clip, engine="ffmpeg", fps=1))["state"] == "completed"
        fill(filler)  # a folder that was full from the start would have been passed by for /tmp
        hapless, lucky = ana.upload(clip, engine="ffmpeg", fps=2), ana.upload(clip, engine="fast")
        assert ana.ended(hapless)["error"]["code"] == "no_space"
        assert ana.ended(lucky)["state"] == "completed"
        assert ana.job(lucky)["attempt"] == 1
        filler.unlink()
        with observed.recovery():
            assert ana.ended(ana.upload(clip, engine="ffmpeg", fps=2))["state"] == "completed"
    observed.says("failed (no_space) after three attempts; other jobs go on")
