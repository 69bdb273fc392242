"""The benchmarks run, and compare what they say they compare. What is faster is no test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import engine
from benchmarks.inputs import CONTENTS, INPUTS
from benchmarks.service import turn
from benchmarks.uploads import MIB, report
from scripts.servers.process import program
from scripts.stack import Stack
from tests.media.clips import X264, Clip
from tests.servers import required

ROOT = Path(__file__).parents[2]
_LINE = re.compile(r" +(\S.*?) +([\d.]+) +([\d.]+) +(\d+)( +[\d.]+x)+")


def test_all_ways_are_compared(tmp_path: Path) -> None:
    with required():
        program("zip", "/usr/bin/zip")
    trailer = Clip("trailer_bbb.mp4", X264, size=(320, 180)).make(tmp_path)  # in place of the real one
    assert trailer.exists()
    what = ("--only", "h264", "--only", "a second", "--seconds", "2", "--rounds", "1")
    table = _benchmark("engine", "--folder", str(tmp_path), *what)
    groups = table.split("h264-2s.mp4")[1:]
    assert [group.splitlines()[0].partition(", ")[2] for group in groups] == ["PNG, 1 a second", "JPEG, 1 a second"]
    ways = {"ffmpeg + zip,", "decode only", "fiapx fast, 1 process", "fiapx fast, 2 processes", "fiapx ffmpeg"}
    assert [_ways(group) - {"OpenCV + zipfile"} for group in groups] == [ways, ways]
    assert re.findall(r" decode only .* (\S+)x", table) == ["1.00", "1.00"]  # of the CPU time of itself
    assert len(re.findall(r"^  2 processes are \d+\.\d\d times as fast as 1$", table, re.MULTILINE)) == 2


@pytest.mark.parametrize("all_", [False, True])
def test_every_input_can_be_measured_in_every_way(all_: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: dict[tuple[str, str], bool] = {}

    def compare(group: engine.Group, video: Path, _rounds: int, *, full: bool) -> None:
        compared[video.stem.partition("-generated")[0], group.name] = full

    _as_if_made(tmp_path)
    monkeypatch.setattr(engine, "compare", compare)
    monkeypatch.setattr("sys.argv", ["engine", "--folder", str(tmp_path), "--content", "generated", *["--all"] * all_])
    engine.main()
    inputs, few = {video.name for video in INPUTS}, {"h264", "clip"}
    kinds = ["PNG, 1 a second", "JPEG, 1 a second", "JPEG, 1 in 10 s"]
    usual = {(name, kinds[1]): name in few for name in inputs - {"h264-4k"}} | {(name, kinds[0]): True for name in few}
    everything = {(name, kind): True for name in inputs for kind in kinds}
    assert compared == (everything if all_ else usual | {("h264", kinds[2]): False})


def test_videos_of_different_contents_are_different_files(tmp_path: Path) -> None:
    _as_if_made(tmp_path)
    names = [video.make(tmp_path, 600, content).name for video in INPUTS for content in CONTENTS.values()]
    assert len(set(names)) == len(names)
    assert {"h264-600s.mp4", "clip-2s.mp4", "h264-bunny-600s.mp4", "h264-4k-sample-60s.mp4"} < set(names)


@pytest.mark.parametrize("name", ["service", "fairness", "uploads"])
def test_those_that_take_long_can_be_started(name: str) -> None:
    """Each needs servers for more than ten seconds, so no more of them is run here."""
    assert f"benchmarks.{name}" in _benchmark(name, "--help")


def test_nobody_is_always_first() -> None:
    assert [turn(("ours", "theirs"), number) for number in range(2)] == [["ours", "theirs"], ["theirs", "ours"]]


def test_uploads_go_without_a_peer_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    stack = cast("Stack", SimpleNamespace(roles=defaultdict(lambda: SimpleNamespace(pid=os.getpid()))))
    report(stack, None, {"fiapx": [1.0]}, MIB)
    assert "no npm" in capsys.readouterr().out


def _as_if_made(folder: Path) -> None:
    """Put empty files in place of all videos that last as long as by default."""
    for video in INPUTS:
        for content in ("", *(f"-{name}" for name in CONTENTS if name != "trailer")):
            (folder / f"{video.name}{content}-{video.seconds or 600}s.{video.extension}").touch()


def _benchmark(name: str, *arguments: str) -> str:
    """What it prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout


def _ways(group: str) -> set[str]:
    """Those with costs that are more than nothing, without versions."""
    found = set()
    for match in filter(None, map(_LINE.fullmatch, group.splitlines())):
        name, wall, cpu, _, _ = match.groups()  # some are over before their memory is looked at
        assert min(float(wall), float(cpu)) > 0, name
        found.add(re.sub(r" \d+\.\d+$", "", name))
    return found
