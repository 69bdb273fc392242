"""Side by side on one machine, on private servers: fiapx's services, and a Celery worker that calls FFmpeg.

    python -m benchmarks.service [--only uploads|jobs|gateway|workers]... [--rounds 5] [--clips 200] [--mib 1024]

`uploads`: see benchmarks.uploads. `jobs`: one-second clips, first all at once (jobs a second, and p50 and p95 from
accepted to completed), then one after the other (idle). `gateway`: a cheap request through the gateway against the
bare service. `workers`: one, two and four workers with one decoder each, on many small videos and on one large. Prints
medians; whoever is compared is first in every other round. Needs Debian's postgresql, rabbitmq-server, redis-server
and wrk, celery, and npm for the peer of uploads.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from benchmarks import uploads
from benchmarks.celery_peer import RATE, Batch, Peer
from scripts.stack import Stack, running

_API: Final = "/api/v1"
_SETTINGS: Final = {
    "FIAPX_USER_RATE": "1000000/minute",
    "FIAPX_ADDRESS_RATE": "1000000/minute",
    "FIAPX_BCRYPT_ROUNDS": "4",
    "FIAPX_LOG_LEVEL": "WARNING",
}
_REST: Final = 0.3
"""Seconds between two jobs, one after the other."""
_LOAD: Final = 10
"""Seconds of requests to each."""
_CONNECTIONS: Final = 8
_LOOK: Final = 0.005
"""Seconds between two looks whether a job has ended."""


class Client:
    """Somebody who is logged in."""

    def __init__(self, url: str) -> None:
        self.url = url
        form = {"username": f"{uuid.uuid4().hex}@example.com", "password": uuid.uuid4().hex}
        account = {"email": form["username"], "password": form["password"]}
        httpx.post(f"{url}{_API}/auth/register", json=account).raise_for_status()
        token = httpx.post(f"{url}{_API}/auth/token", data=form).raise_for_status().json()["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=url + _API, headers=self.headers, timeout=60)

    def upload(self, video: Path, name: str) -> str:
        with video.open("rb") as file:
            answer = self.http.post("/videos", params={"name": name}, content=file)
        return str(answer.raise_for_status().json()["id"])

    def job(self, video_id: str, **options: str) -> str:
        wanted = {"video_id": video_id, "options": options}
        return str(self.http.post("/jobs", json=wanted).raise_for_status().json()["id"])

    def state(self, job_id: str) -> str:
        return str(self.http.get(f"/jobs/{job_id}").raise_for_status().json()["state"])

    def latency(self, job_id: str) -> float:
        """Seconds from accepted to completed. Raises RuntimeError for a job that failed."""
        job = self.http.get(f"/jobs/{job_id}").raise_for_status().json()
        if job["state"] != "completed":
            raise RuntimeError(f"job {job_id} is {job['state']}")
        begin, end = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
        return (end - begin).total_seconds()

    def unfinished(self) -> bool:
        return any(self.http.get("/jobs", params={"state": state}).json()["items"] for state in ("queued", "running"))


@contextmanager
def stack(folder: Path, settings: Mapping[str, str], workers: int = 1) -> Iterator[tuple[Stack, Client]]:
    """fiapx with so many workers."""
    with running(folder, lambda _name, _line: None, settings={**_SETTINGS, **settings}, workers=workers) as found:
        yield found, Client(found.url)


def until(true: Callable[[], bool], look: float = _LOOK) -> None:
    while not true():
        time.sleep(look)


def clip(folder: Path, seconds: int, size: str) -> Path:
    """Test pictures with noise, so that images are as large as real ones."""
    path = folder / f"clip-{seconds}s.mp4"
    source = f"testsrc2=size={size}:rate=30:duration={seconds},noise=alls=8:allf=t"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast"]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


def jobs(folder: Path, options: argparse.Namespace) -> None:
    """fiapx against Celery."""
    video, clips = clip(folder, 1, "640x360"), options.clips
    found: dict[str, list[Batch]] = {"Celery and FFmpeg": [], "fiapx": []}
    idle: dict[str, list[float]] = {name: [] for name in found}
    with (
        stack(folder / "stack", {"FIAPX_CONCURRENCY": "2"}) as (services, client),
        Peer(folder, services.rabbit.url) as peer,
    ):
        peer.take(video, clips)
        many: dict[str, Callable[[str], Batch]] = {
            "Celery and FFmpeg": peer.batch,
            "fiapx": partial(batch, client, video, clips),
        }
        one: dict[str, Callable[[str], float]] = {
            "Celery and FFmpeg": peer.single,
            "fiapx": partial(single, client, video),
        }
        for first in one.values():  # all processes are there, and have their code
            first("first")
        for number in range(options.rounds):
            for name in turn(found, number):
                found[name].append(many[name](f"round {number}"))
        for number in range(options.idle):
            for name in turn(idle, number):
                time.sleep(_REST)
                idle[name].append(one[name](f"idle {number}"))
    print(f"{'':24}{'jobs/s':>8}{'p50 s':>12}{'p95 s':>12}{'idle p50 s':>12}{'idle p95 s':>12}")
    for name, batches in found.items():
        waited = [seconds for _, each in batches for seconds in each]
        row(name, clips / typical(batches), *ends(waited), *ends(idle[name]))
    print(f"ratio {typical(found['Celery and FFmpeg']) / typical(found['fiapx']):.2f}")


def turn(names: Iterable[str], number: int) -> list[str]:
    """The order of a round: each one is first as often as last."""
    return list(names)[:: -1 if number % 2 else 1]


def typical(batches: list[Batch]) -> float:
    """The median of their seconds."""
    return statistics.median(seconds for seconds, _ in batches)


def row(name: str, *numbers: float) -> None:
    print(f"{name:24}{numbers[0]:8.2f}" + "".join(f"{number:12.3f}" for number in numbers[1:]), flush=True)


def batch(client: Client, video: Path, clips: int, label: str) -> Batch:
    """All at once; from accepted to completed by the service's own clock."""
    videos = [client.upload(video, f"{label} {number}.mp4") for number in range(clips)]
    begin = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda video_id: client.job(video_id, fps=RATE), videos))
    until(lambda: not client.unfinished(), 0.1)  # which is asked of the service that is measured
    spent = time.perf_counter() - begin
    return spent, [client.latency(job_id) for job_id in ids]


def ends(values: list[float]) -> tuple[float, float]:
    """p50 and p95."""
    return percentile(values, 50), percentile(values, 95)


def percentile(values: list[float], number: int) -> float:
    return statistics.quantiles(values, n=100)[number - 1]


def gateway(folder: Path, options: argparse.Namespace) -> None:
    """A list of jobs, as fast as eight connections ask for it: each passed on, then with the answers that are kept."""
    print(f"{'':24}{'requests/s':>12}{'p99 ms':>12}")
    for label, seconds in (("nothing kept", "0"), ("kept for 5 s", "5")):
        found: dict[str, list[tuple[float, float]]] = {"service": [], "gateway": []}
        with stack(folder / label, {"FIAPX_CACHE_TTL_JOBS": seconds}) as (services, client):
            urls = {"service": services.of("processing")[0].url, "gateway": services.url}
            for number in range(options.rounds):
                for name in turn(urls, number):
                    found[name].append(load(urls[name], client.headers))
        for name, values in found.items():
            row(f"{name}, {label}", *map(statistics.median, zip(*values, strict=True)))


def load(url: str, headers: Mapping[str, str]) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of their milliseconds; by wrk, as a client in Python is no faster than
    what it would measure."""
    options = [f"--duration={_LOAD}s", f"--connections={_CONNECTIONS}", "--threads=1", "--latency"]
    sent = [f"--header={name}: {value}" for name, value in headers.items()]
    command = ["wrk", *options, *sent, f"{url}{_API}/jobs"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    speed, p99 = re.search(r"Requests/sec:\s+([\d.]+)", told), re.search(r"99%\s+([\d.]+)(us|ms|s)\s", told)
    assert speed, told
    assert p99, told
    return float(speed[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]


def workers(folder: Path, options: argparse.Namespace) -> None:
    """More workers, each with one decoder."""
    small, large = clip(folder, 1, "640x360"), clip(folder, 120, "1280x720")
    print(f"{'':24}{'small jobs/s':>14}{'large s':>10}")
    for number in (1, 2, 4):
        settings = {"FIAPX_CORES": "1", "FIAPX_PART": "400"}
        with stack(folder / f"stack-{number}", settings, number) as (_, client):
            many = [batch(client, small, options.clips, f"round {each}") for each in range(options.rounds)]
            one = [single(client, large, f"large {each}.mp4") for each in range(options.rounds)]
        name = f"{number} worker{'s' if number > 1 else ''}"
        print(f"{name:24}{options.clips / typical(many):14.2f}{statistics.median(one):10.2f}", flush=True)


def single(client: Client, video: Path, name: str) -> float:
    """Seconds from asked for to completed."""
    video_id = client.upload(video, name)
    begin = time.perf_counter()
    job_id = client.job(video_id, fps=RATE)
    until(lambda: client.state(job_id) == "completed")
    return time.perf_counter() - begin


def resumable(_folder: Path, options: argparse.Namespace) -> None:
    """Ours against @tus/server."""
    uploads.compare(options.mib, options.rounds)


GROUPS: Final = {"uploads": resumable, "jobs": jobs, "gateway": gateway, "workers": workers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", choices=GROUPS, help="a group; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--idle", type=int, default=30, help="jobs one after the other; two or more")
    parser.add_argument("--mib", type=int, default=1024, help="of an upload")
    options = parser.parse_args()
    for name in options.only or GROUPS:
        with tempfile.TemporaryDirectory(prefix="fiapx-bench-") as folder:
            print(f"-- {name}", flush=True)
            GROUPS[name](Path(folder), options)


if __name__ == "__main__":
    main()
