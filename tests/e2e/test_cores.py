"""A CPU quota of a real cgroup, as a container has one, is followed by the command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.kit import FIAPX, environment
from tests.processing_kit import eventually

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be two")


@pytest.fixture(params=[1, 2])
def quota(request: pytest.FixtureRequest) -> int:
    """In cores."""
    cores: int = request.param
    return cores


@pytest.fixture
def cgroup(quota: int) -> Iterator[Path]:
    """A cgroup with this quota, of whichever version this machine has."""
    second = (_ROOT / "cgroup.controllers").exists()
    folder = (_ROOT if second else _ROOT / "cpu") / f"fiapx-test-{os.getpid()}"
    limit = ("cpu.max", f"{quota * _PERIOD} {_PERIOD}") if second else ("cpu.cfs_quota_us", str(quota * _PERIOD))
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        try:
            (folder / limit[0]).write_text(limit[1])
        except OSError as error:
            pytest.skip(f"no CPU quota can be set here: {error}")
        yield folder
    finally:
        eventually(lambda: not _members(folder), 10)
        folder.rmdir()


@needs_two_cores
def test_the_doctor_names_what_is_granted(cgroup: Path, quota: int, tmp_path: Path) -> None:
    with _started(cgroup, tmp_path, "doctor", "--json") as command:
        output, _ = command.communicate(timeout=60)
    found = {check["name"]: check["detail"] for check in json.loads(output)["checks"]}
    assert found["cores"].startswith(f"{quota} of ")


@needs_two_cores
def test_as_many_decoders_as_cores_are_granted(cgroup: Path, quota: int, long: Path, tmp_path: Path) -> None:
    """Without --jobs."""
    with _started(cgroup, tmp_path, "extract", long, "--step", "1", "-o", "out.zip") as command:
        try:
            eventually(lambda: _decoders(cgroup) == quota, 30)
            eventually(lambda: any(part.stat().st_size > 1_000_000 for part in tmp_path.glob("*.part")), 30)
            assert _decoders(cgroup) == quota
        finally:
            command.terminate()


def _started(cgroup: Path, folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A command that is in the cgroup before it starts."""
    enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(cgroup / "cgroup.procs")]
    return subprocess.Popen(
        [*enter, str(FIAPX), *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def _members(cgroup: Path) -> list[str]:
    return (cgroup / "cgroup.procs").read_text().split()


def _decoders(cgroup: Path) -> int:
    """How many processes decode."""
    found = 0
    for pid in _members(cgroup):
        with suppress(OSError):  # it has ended
            found += b"fiapx.media.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return found
