"""Files that are no videos: the same code on this machine and by a server, and no output of either."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.e2e.kit import Account, Server, run
from tests.media.test_bad_input import BAD

KINDS = ("text", "zero-bytes", "audio-only", "cover-art", "no-moov", "unsupported-codec", "playlist", "far-apart")
EXPECTED = {kind: BAD[kind][1] for kind in KINDS}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """A folder with ``KIND.mp4`` of each."""
    folder = tmp_path_factory.mktemp("bad")
    for kind in KINDS:
        BAD[kind][0](folder / f"{kind}.mp4", clip)
    return folder


def _codes(done: CompletedProcess[str]) -> dict[str, str]:
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return {Path(result["input"]).stem: result.get("error", {}).get("code", "none") for result in results}


def _inputs(bad: Path) -> list[Path]:
    return [bad / f"{kind}.mp4" for kind in KINDS]


def _quiet(done: CompletedProcess[str], bad: Path) -> None:
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3 * len(KINDS)
    assert "secret" not in done.stderr


@pytest.mark.parametrize("engine", ["auto", "ffmpeg"])
def test_extract_names_what_is_wrong(bad: Path, tmp_path: Path, engine: str) -> None:
    done = run(tmp_path, "extract", *_inputs(bad), "-o", "out", "--engine", engine, "--json")
    assert done.returncode == 1
    assert _codes(done) == EXPECTED
    _quiet(done, bad)
    assert list((tmp_path / "out").iterdir()) == []


def test_jobs_name_the_same(server: Server, ana: Account, bad: Path, tmp_path: Path) -> None:
    done = ana.run(tmp_path, "upload", *_inputs(bad), "--wait", "-o", "out", "--json")
    assert done.returncode == 1
    assert _codes(done) == EXPECTED
    _quiet(done, bad)
    assert list((tmp_path / "out").iterdir()) == []
    for job in ana.get("/jobs")["items"]:
        assert (job["state"], job["attempt"], job["result"]) == ("failed", 1, None)  # the video's fault: not repeated
        assert str(server.home) not in json.dumps(job)
        assert not server.files(f"jobs/{job['id']}")


@pytest.mark.parametrize("kind", ["text", "no-moov"])
def test_a_single_one_fails_with_1(ana: Account, bad: Path, tmp_path: Path, kind: str) -> None:
    for command in (("extract",), ("upload", "--wait")):
        done = ana.run(tmp_path, *command, bad / f"{kind}.mp4", "--json")
        assert (done.returncode, _codes(done)) == (1, {kind: EXPECTED[kind]})
