"""Workers and their leases: killed, asleep, without a database, with a clock that is wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from scripts.servers.process import program
from scripts.stack import RoleProcess, Stack
from tests.e2e.kit import quickly
from tests.e2e.processes import Process, decoders
from tests.faults.table import Observed
from tests.media.clips import X264, Clip
from tests.processing_kit import eventually
from tests.servers import required
from tests.stack.chaos import held, kill_alone
from tests.stack.conftest import SETTINGS
from tests.stack.crowd import whole
from tests.stack.kit import LONG, Logs, User, away, killed, results, started, wait_until_ready

KILLS = int(os.environ.get("FIAPX_KILLS", "3"))
LEASE: Final = float(SETTINGS["FIAPX_LEASE"])
RELIEVED: Final = LEASE + float(SETTINGS["FIAPX_REAPER_INTERVAL"]) + 3
"""Seconds from the end of a worker until another is at its job; some of them for a machine that is busy."""

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("books")]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `LONG`, work for longer than a lease, and for one worker alone: it has one keyframe."""
    clip = Clip("film.mp4", (*X264, "-g", "1000", "-sc_threshold", "0"), frames=900)
    return clip.make(tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `LONG`, work for some seconds."""
    return Clip("scene.mp4", (*X264, "-g", "25"), frames=300).make(tmp_path_factory.mktemp("scene"))


@pytest.mark.timeout(120 + 30 * KILLS)
@pytest.mark.fault(5, f"SIGKILL of a worker at {KILLS} random moments of jobs")
def test_a_job_whose_worker_is_killed_has_another_in_time(
    stack: Stack, ana: User, scene: Path, tmp_path: Path, observed: Observed
) -> None:
    choice = random.Random(5)
    undisturbed = ana.completed(ana.upload(scene, **LONG)["id"])["result"]["sha256"]
    for _ in range(KILLS):
        job_id = str(ana.upload(scene, fresh="true", **LONG)["id"])
        victim = _at(stack, job_id)
        time.sleep(choice.uniform(0, 2))  # the moment of the fault, not a wait for something
        pid = victim.pid
        with observed.recovery(within=RELIEVED):
            kill_alone(victim)
            assert held(stack, pid) == {job_id}
            eventually(partial(_is_tried_again, ana, job_id), 60)
        started([victim])
        assert ana.completed(job_id)["attempt"] == 2
        _has_one_zip(stack, ana, job_id, undisturbed, tmp_path / "result.zip")
    observed.says(f"{KILLS} jobs completed by attempt 2, one ZIP of each")


def _at(stack: Stack, job_id: str) -> RoleProcess:
    """The worker that has the job, as soon as one has."""
    found: list[RoleProcess] = []

    def one_has() -> bool:
        found.extend(worker for worker in stack.of("worker") if job_id in held(stack, worker.pid))
        return bool(found)

    eventually(one_has, 30)
    return found[0]


def _is_tried_again(user: User, job_id: str) -> bool:
    return bool(user.job(job_id)["attempt"] == 2)


def _has_one_zip(stack: Stack, user: User, job_id: str, expected: str, path: Path) -> None:
    """It is that of attempt 2, sound, and of the SHA-256 that is expected."""
    path.write_bytes(user.client.get(f"/jobs/{job_id}/result").raise_for_status().content)
    assert sha256(path.read_bytes()).hexdigest() == expected
    assert whole(path) == user.job(job_id)["result"]["frames"]
    eventually(lambda: results(stack, job_id) == ["2.zip"], 90)


@pytest.mark.fault(7, "SIGSTOP of a worker past its lease, then SIGCONT")
def test_a_worker_that_slept_past_its_lease_changes_nothing(
    stack: Stack, ana: User, clip: Path, observed: Observed
) -> None:
    first, second = stack.of("worker")
    second.stop()
    with away([second]):
        job_id = ana.upload(clip, **LONG)["id"]
        eventually(lambda: ana.job(job_id)["state"] == "running", 30)
        first.send(signal.SIGSTOP)
    with observed.recovery():
        assert ana.completed(job_id, 90)["attempt"] == 2
    sha256 = ana.job(job_id)["result"]["sha256"]
    first.send(signal.SIGCONT)
    ana.completed(ana.upload(clip, fps="3")["id"])
    eventually(lambda: results(stack, job_id) == ["2.zip"], 90)
    assert ana.job(job_id)["result"]["sha256"] == sha256
    observed.says("completed by attempt 2; nothing of attempt 1 shows")


@pytest.mark.fault(20, "PostgreSQL stopped or killed in the middle of a job")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_no_decoder_outlives_its_lease(
    stack: Stack, ana: User, film: Path, logs: Logs, observed: Observed, how: str
) -> None:
    job_id = ana.upload(film, **LONG)["id"]
    eventually(lambda: bool((ana.job(job_id)["progress"] or {}).get("done")), 30)
    assert _decoding(stack)
    end = {"stop": stack.postgres.stop, "kill": stack.postgres.kill}[how]
    ending = threading.Thread(target=end)  # it takes its time
    ending.start()
    try:
        seconds = quickly(lambda: not _decoding(stack), LEASE + 2)
        eventually(lambda: job_id in [told["job_id"] for told in logs.events("worker", "lease_not_renewable")], 5)
    finally:
        ending.join()
        stack.postgres.start()
    wait_until_ready(stack)
    with observed.recovery():
        ana.completed(job_id, 120)
    observed.says(f"no decoder was left after {seconds:.1f} s; completed afterwards")


def _decoding(stack: Stack) -> list[Process]:
    """The decoders of all workers."""
    return [decoder for worker in stack.of("worker") for decoder in decoders(worker.pid)]


@pytest.mark.fault(28, "the clocks of the workers an hour ahead, or behind")
@pytest.mark.parametrize("hours", ["+1h", "-1h"])
def test_leases_go_by_the_clock_of_the_database(
    stack: Stack, ana: User, clip: Path, observed: Observed, monkeypatch: pytest.MonkeyPatch, hours: str
) -> None:
    first, second = stack.of("worker")
    with away([first, second]):
        _start_shifted(first, hours, monkeypatch)
        job_id = ana.upload(clip, **LONG)["id"]
        eventually(lambda: ana.job(job_id)["state"] == "running", 30)
        killed([first])
        started([second])
        with observed.recovery():
            assert ana.completed(job_id, 90)["attempt"] == 2
    observed.says("taken over after the lease, and not before its end")


@pytest.mark.fault(28, "the clock of a worker an hour ahead, or behind, in a job longer than its lease")
@pytest.mark.parametrize("hours", ["+1h", "-1h"])
def test_a_wrong_clock_costs_no_lease(
    stack: Stack, ana: User, film: Path, logs: Logs, observed: Observed, monkeypatch: pytest.MonkeyPatch, hours: str
) -> None:
    first, second = stack.of("worker")
    with away([first, second]):
        _start_shifted(first, hours, monkeypatch)
        job_id = ana.upload(film, **LONG)["id"]
        eventually(lambda: ana.job(job_id)["state"] == "running", 30)
        started([second])  # it would take over
        seconds = quickly(lambda: ana.job(job_id)["state"] != "running", 120)
    assert ana.completed(job_id)["attempt"] == 1
    assert seconds > RELIEVED
    assert len([told for told in logs.events("worker", "attempt_started") if told["job_id"] == job_id]) == 1
    observed.says("a job longer than its lease: not taken over")


def _start_shifted(worker: RoleProcess, hours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that is wrong."""
    with monkeypatch.context() as environment:
        for name, value in _shifted(hours).items():
            environment.setenv(name, value)
        started([worker])


def _shifted(hours: str) -> dict[str, str]:
    """The environment of a process whose clock is wrong. The monotonic one stays, or else waits would not end."""
    with required():
        faketime = str(program("faketime", "/usr/bin/faketime"))
    preload = subprocess.check_output([faketime, "-f", hours, "printenv", "LD_PRELOAD"], text=True).strip()
    return {"LD_PRELOAD": preload, "FAKETIME": hours, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
