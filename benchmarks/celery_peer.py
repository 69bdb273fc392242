"""What people build instead of fiapx: a Celery worker that calls FFmpeg, packs a ZIP, and stores it.

    celery --app benchmarks.celery_peer worker --concurrency 2

BENCH_BROKER is RabbitMQ's URL, BENCH_STORE the folder of videos and results.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from celery import Celery

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
