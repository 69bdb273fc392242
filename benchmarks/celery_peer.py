"""What people build instead of fiapx: a Celery worker that calls FFmpeg, packs a ZIP, and stores it.

    celery --app benchmarks.celery_peer worker --concurrency 2

BENCH_BROKER is RabbitMQ's URL, BENCH_STORE the folder of videos and results.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from celery import Celery

Batch = tuple[float, list[float]]
"""Seconds until all jobs had ended, and for each of them those from accepted to completed."""
RATE: Final = "5"
STORE: Final = Path(os.environ.get("BENCH_STORE", "."))

app = Celery("peer", broker=os.environ.get("BENCH_BROKER"))
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)


@app.task(name="extract")
def extract(video: str, result: str) -> None:
    """Frames of ``STORE/video`` as a ZIP ``STORE/result``, which is on the disk and whole once it shows."""
    with tempfile.TemporaryDirectory() as folder:
        frames = ["-vf", f"fps={RATE}", "-q:v", "2", f"{folder}/frame_%06d.jpg"]
        subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-i", str(STORE / video), *frames], check=True)
        fresh = STORE / f"{result}.part"
        with fresh.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for image in sorted(Path(folder).iterdir()):
                    archive.write(image, image.name)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(STORE / result)


class Peer:
    """Such a worker on this broker, with a folder of its own below `folder`."""

    def __init__(self, folder: Path, broker: str) -> None:
        self._store = folder / "peer"
        self._store.mkdir()
        self._clips = 0
        app.conf.broker_url = broker
        env = os.environ | {"BENCH_BROKER": broker, "BENCH_STORE": str(self._store)}
        command = [sys.executable, "-m", "celery", "--app", "benchmarks.celery_peer", "--quiet"]
        self._worker = subprocess.Popen([*command, "worker", "--concurrency", "2", "--loglevel", "ERROR"], env=env)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.terminate()
        self._worker.wait()

    def take(self, video: Path, clips: int) -> None:
        """Have so many copies of the video to work on."""
        self._clips = clips
        for number in range(clips):
            (self._store / f"{number}.mp4").write_bytes(video.read_bytes())

    def batch(self, label: str) -> Batch:
        """All at once. A result is there when its file got its name, by the file system's clock."""
        results = [self._store / f"{label}-{number}.zip" for number in range(self._clips)]
        begin, accepted = time.perf_counter(), []
        for number, result in enumerate(results):
            extract.delay(f"{number}.mp4", result.name)
            accepted.append(time.time())
        self._wait(results, 0.1)
        spent = time.perf_counter() - begin
        return spent, [path.stat().st_ctime - asked for path, asked in zip(results, accepted, strict=True)]

    def single(self, label: str) -> float:
        """Seconds from asked for to completed."""
        begin = time.perf_counter()
        extract.delay("0.mp4", f"{label}.zip")
        self._wait([self._store / f"{label}.zip"], 0.005)
        return time.perf_counter() - begin

    def _wait(self, results: list[Path], look: float) -> None:
        """Raises RuntimeError if the worker ends before."""
        while not all(path.exists() for path in results):
            if self._worker.poll() is not None:
                raise RuntimeError("the Celery worker has ended")
            time.sleep(look)
