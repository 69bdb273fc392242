"""How many cores are granted, by the files of cgroups as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fiapx.core.cores import granted_cores

Files = dict[str, str]
_V1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def _granted(folder: Path, files: Files, own: str = "0::/\n") -> int:
    for name, text in {**files, "own": own}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return granted_cores(folder, folder / "own")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "1000 0\n"}, 8),
        ({"cpu.max": "\n"}, 8),
        (dict(zip(_V1, ("-1\n", "100000\n"), strict=True)), 8),
        (dict(zip(_V1, ("150000\n", "100000\n"), strict=True)), 2),
        (dict(zip(_V1, ("300000\n", "100000\n"), strict=True)), 3),
        ({_V1[0]: "100000\n"}, 8),
    ],
    ids=str,
)
def test_a_quota_is_rounded_up(files: Files, cores: int, tmp_path: Path) -> None:
    assert _granted(tmp_path, files) == cores


def test_the_lowest_quota_from_the_own_cgroup_upwards_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000", "c/cpu.max": "100000 100000"}
    assert _granted(tmp_path, files, "0::/a/b\n") == 3
    assert _granted(tmp_path, {"a/b/cpu.max": "200000 100000"}, "0::/a/b\n") == 2
    assert _granted(tmp_path, {}, "0::/elsewhere\n") == 8


def test_nested_cgroups_of_version_1(tmp_path: Path) -> None:
    inner = "cpu/docker/1f/cpu.cfs_"
    files = {f"{inner}quota_us": "250000", f"{inner}period_us": "100000"}
    own = "11:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/\n"
    assert _granted(tmp_path, files, own) == 3


@pytest.mark.parametrize("own", ["", "nonsense\n", "0::\n"])
def test_what_cannot_be_read_limits_nothing(own: str, tmp_path: Path) -> None:
    assert _granted(tmp_path, {}, own) == 8
    assert granted_cores(tmp_path / "none", tmp_path / "none") == 8


def test_the_affinity_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert _granted(tmp_path, {"cpu.max": "400000 100000"}) == 1


def test_this_machine_grants_at_least_one() -> None:
    assert granted_cores() >= 1
