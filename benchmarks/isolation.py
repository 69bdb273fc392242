"""How long a log-in takes while processing hangs and requests for it wait at a gateway, against a quiet stack.

    python -m benchmarks.isolation [--rounds 3] [--log-ins 100] [--waiting 200]

Every role runs twice, as with ``make stack N=2``. Nothing answers for processing (SIGSTOP) in the second half of a
round; the first half is the baseline. The aim: the 99th percentile is less than twice that of the baseline.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from scripts.stack import Stack, running

API: Final = "/api/v1"
PASSWORD: Final = "plum-orbit-tractor-91"
AIM: Final = 2.0
SETTINGS: Final = {
    "FIAPX_LOGIN_RATE": "100000/minute",
    "FIAPX_USER_RATE": "100000/minute",
    "FIAPX_ADDRESS_RATE": "100000/minute",
    "FIAPX_UPSTREAM_CONNECTIONS": "256",  # so that all of them wait
}


async def log_in(client: httpx.AsyncClient, email: str) -> str:
    """The access token."""
    form = {"username": email, "password": PASSWORD}
    answer = (await client.post(f"{API}/auth/token", data=form)).raise_for_status()
    return str(answer.json()["access_token"])


async def time_log_ins(client: httpx.AsyncClient, email: str, count: int) -> list[float]:
    """Milliseconds of each, one after another."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await log_in(client, email)
        times.append((time.perf_counter() - started) * 1000)
    return times


@contextmanager
def waiting(stack: Stack, token: str, count: int) -> Iterator[None]:
    """So many clients of a service that hangs, in a process of their own."""
    clients = multiprocessing.Process(target=_insist, args=(stack.url, token, count), daemon=True)
    clients.start()
    try:
        time.sleep(2)  # until all of them have come
        yield
    finally:
        clients.kill()
        clients.join()


def _insist(url: str, token: str, count: int) -> None:
    asyncio.run(_come_again(url, {"Authorization": f"Bearer {token}"}, count))


async def _come_again(url: str, headers: dict[str, str], count: int) -> None:
    """Who is sent away comes again, when it was told to."""

    async def insist(client: httpx.AsyncClient) -> None:
        while True:
            answer = await client.get(f"{API}/jobs", headers=headers)
            await asyncio.sleep(float(answer.headers.get("Retry-After", 1)) * random.uniform(1, 2))  # no herd

    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(insist(client) for _ in range(count)))


async def compare(stack: Stack, log_ins: int, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of log-ins: when all is well, and while processing hangs."""
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        account = {"email": email, "password": PASSWORD}
        (await client.post(f"{API}/auth/register", json=account)).raise_for_status()
        token = await log_in(client, email)
        quiet = await time_log_ins(client, email, log_ins)
        for process in stack.of("processing"):
            process.send(signal.SIGSTOP)
        try:
            with waiting(stack, token, count):
                return quiet, await time_log_ins(client, email, log_ins)
        finally:
            for process in stack.of("processing"):
                process.send(signal.SIGCONT)


def percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log-ins", type=int, default=100, help="in each half of a round")
    parser.add_argument("--waiting", type=int, default=200, help="requests that wait for processing")
    options = parser.parse_args()
    ratios = []
    with (
        tempfile.TemporaryDirectory(prefix="fiapx-isolation-") as folder,
        running(Path(folder), lambda _name, _line: None, each=2, settings=SETTINGS) as stack,
    ):
        print("round  quiet p50    p99   hanging p50    p99   ratio of p99")
        for number in range(options.rounds):
            quiet, hanging = asyncio.run(compare(stack, options.log_ins, options.waiting))
            ratios.append(percentile(hanging, 99) / percentile(quiet, 99))
            row = (percentile(times, percent) for times in (quiet, hanging) for percent in (50, 99))
            print(
                "{:5}  {:8.0f}  {:7.0f}  {:10.0f}  {:7.0f}  {:10.2f}".format(number + 1, *row, ratios[-1]), flush=True
            )
    median = statistics.median(ratios)
    print(f"median ratio {median:.2f}, aim < {AIM:.0f}")
    return 0 if median < AIM else 1


if __name__ == "__main__":
    sys.exit(main())
