"""The worker with the real engine and a real video."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from fiapx.worker.attempt import Workshop
from fiapx.worker.run import Worker
from tests.processing_kit import ANA, Processing, eventually, hosting, processing


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path) as service:
        yield service


@pytest.fixture
def client(service: Processing) -> Iterator[httpx.Client]:
    shop = Workshop(service.leases, service.storage, service.cache)
    worker = Worker(shop, service.bus, poll=0.1)
    stop = threading.Event()
    relay = threading.Thread(target=service.relay.run, args=(stop,))
    relay.start()
    worker.start()
    with hosting() as host, host.serve(service.app) as url, service.client(url) as client:
        yield client
    assert worker.stop(0)
    stop.set()
    relay.join()


def clip(path: Path, seconds: int) -> Path:
    """A grey video of 10 frames a second, each a little lighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(seconds * 10):
            picture = np.full((48, 64, 3), number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def ended(client: httpx.Client, job_id: str) -> dict[str, object]:
    eventually(lambda: client.get(f"/jobs/{job_id}").json()["state"] not in {"queued", "running"}, timeout=30)
    job: dict[str, object] = client.get(f"/jobs/{job_id}").json()
    return job


def test_from_a_video_to_its_frames(client: httpx.Client, tmp_path: Path) -> None:
    video = clip(tmp_path / "clip.mp4", 3)
    with video.open("rb") as file:
        job_id = client.post("/jobs", data={"fps": "2", "format": "png"}, files={"file": file}).json()["id"]
    job = ended(client, job_id)
    assert job["state"] == "completed", job["error"]
    answer = client.get(f"/jobs/{job_id}/result")
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["x-checksum-sha256"]
    archive = tmp_path / "out.zip"
    archive.write_bytes(answer.content)
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        manifest = json.loads(opened.read("manifest.json"))
        assert manifest == client.get(f"/jobs/{job_id}/manifest").json()
        assert len(manifest["frames"]) == 6
        for frame in manifest["frames"]:
            image = client.get(f"/jobs/{job_id}/frames/{frame['index']}")
            assert image.content == opened.read(frame["file"])
            assert image.headers["content-type"] == "image/png"


def test_what_is_no_video_fails_with_its_code(client: httpx.Client) -> None:
    job_id = client.post("/jobs", files={"file": ("a.mp4", b"just a text\n" * 100)}).json()["id"]
    job = ended(client, job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "unsupported_format")  # type: ignore[index]
    assert job["attempt"] == 1


def test_cancelling_ends_a_running_engine(service: Processing, client: httpx.Client, tmp_path: Path) -> None:
    with clip(tmp_path / "long.mp4", 300).open("rb") as file:
        job_id = client.post("/jobs", data={"fps": "10", "format": "png"}, files={"file": file}).json()["id"]
    eventually(lambda: (client.get(f"/jobs/{job_id}").json()["progress"] or {"done": 0})["done"] > 0)
    client.post(f"/jobs/{job_id}/cancel")
    started = time.monotonic()
    eventually(lambda: [key for key in service.objects() if not key.startswith("videos/")] == [])
    assert time.monotonic() - started < 2
    assert service.queries.job(ANA.user_id, job_id).state == "cancelled"
