"""How long somebody's small jobs take while others keep both workers busy, against the same with nobody else there.

    python -m benchmarks.fairness [--jobs 20] [--queued 200] [--seconds 240]

One-second clips, one by one, from asked for to completed; on private servers, with two workers of one decoder each:

- ``alone``: with nothing else there, which the ratios refer to;
- ``beside a queue``: while another user has so many jobs of the same clip queued, all the time. The claim takes who has
  fewest jobs running, so the job waits until either worker ends the small one that it has, however many are queued. The
  bound is one such job more: twice the time alone, where each decoder has a core to itself;
- ``beside a large video``: while both workers share the frames of one large video of another user, all the time. The
  bound is what a helper takes to drop its part; it does not wait until one is made.

What the others take of the cores comes on top of both. Needs Debian's postgresql, rabbitmq-server and redis-server.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

import httpx

from benchmarks.celery_peer import RATE
from benchmarks.service import Client, clip, percentile, single, stack, until
from scripts.stack import Stack

_WORKERS: Final = 2
_SETTINGS: Final = {"FIAPX_CORES": "1", "FIAPX_PART": "400", "FIAPX_GRACE": "1"}
_LOOK: Final = 0.2  # seconds between two looks at what the others do
_PAUSE: Final = 0.3  # seconds between two jobs, for the workers to rest, or to take up what others want


@contextmanager
def queue(video: Path, services: Stack) -> Iterator[None]:
    """Somebody who has as many jobs as the service allows, all the time."""
    full, over = Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill, Client(services.url), video, full, over)
        try:
            until(lambda: full.is_set() or filling.done())
            yield
        finally:
            over.set()
        filling.result()


def fill(client: Client, video: Path, full: Event, over: Event) -> None:
    """Ask for one job after the other, each as soon as there is room for it. `full` is set once there was none."""
    for number in itertools.count():
        video_id = client.upload(video, f"queued {number}.mp4")  # named anew, as a known result would be used again
        wanted = {"video_id": video_id, "options": {"fps": RATE}}
        while (answer := client.http.post("/jobs", json=wanted)).status_code == httpx.codes.TOO_MANY_REQUESTS:
            full.set()
            if over.wait(_LOOK):
                return
        answer.raise_for_status()


@contextmanager
def shared(video: Path, services: Stack) -> Iterator[None]:
    """Somebody's large video, which both workers make parts of. Raises RuntimeError if it is done too early."""
    client = Client(services.url)
    job_id = client.job(client.upload(video, "large.mp4"), fps="30")
    parts = f"parts/{job_id}/*"
    until(lambda: len(list(services.home.rglob(parts))) >= _WORKERS or client.state(job_id) == "completed", _LOOK)
    yield
    if (state := client.state(job_id)) != "running":
        raise RuntimeError(f"the large video is {state}: it needs more --seconds")


def measure(services: Stack, video: Path, jobs: int) -> tuple[float, float]:
    """p50 and p95 of the seconds from asked for to completed."""
    client, times = Client(services.url), []
    for number in range(jobs):
        time.sleep(_PAUSE)
        times.append(single(client, video, f"mine {number}.mp4"))
    return percentile(times, 50), percentile(times, 95)


def compare(folder: Path, jobs: int, queued: int, seconds: int) -> None:
    small, large = clip(folder, 1, "640x360"), clip(folder, seconds, "1280x720")
    others: dict[str, Callable[[Stack], AbstractContextManager[object]]] = {
        "alone": nullcontext,
        "beside a queue": partial(queue, small),
        "beside a large video": partial(shared, large),
    }
    settings = {**_SETTINGS, "FIAPX_USER_JOBS": str(queued + _WORKERS)}
    found = list[tuple[float, float]]()
    print(f"{'':24}{'p50 s':>8}{'p95 s':>8}{'ratio p50':>11}{'ratio p95':>11}")
    for label, busy in others.items():
        with stack(folder / label, settings, _WORKERS) as (services, _), busy(services):
            found.append(measure(services, small, jobs))
        ratios = [each / alone for each, alone in zip(found[-1], found[0], strict=True)]
        print("{:24}{:8.3f}{:8.3f}{:11.2f}{:11.2f}".format(label, *found[-1], *ratios), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20, help="that are measured, each time; two or more")
    parser.add_argument("--queued", type=int, default=200, help="jobs of somebody else")
    parser.add_argument("--seconds", type=int, default=240, help="of the large video")
    with tempfile.TemporaryDirectory(prefix="fiapx-fairness-") as folder:
        compare(Path(folder), **vars(parser.parse_args()))


if __name__ == "__main__":
    main()
