"""Two versions side by side, as they are during a deploy: the installed one, and the wheel of the one before."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.stack import Stack
from tests.processing_kit import eventually
from tests.stack.kit import Mailbox, User, away, verified, wait_until_ready
from tests.stack.uploads import uploading

pytestmark = pytest.mark.lengthy

_ROOT = Path(__file__).parents[2]
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the version before, installed from its wheel: that of FIAPX_OLDER, a revision of git, or of the
    newest tag; before there is any, of the oldest revision that has today's schemas."""
    folder = tmp_path_factory.mktemp("older")
    revision = os.environ.get("FIAPX_OLDER") or _git("describe", "--tags", "--abbrev=0", "HEAD^", check=False)
    revision = revision or _git("log", "-1", "--format=%H", "--", "fiapx/migrations")
    print(f"\nthe version before: {revision}")
    source = subprocess.run(["git", "archive", revision], cwd=_ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(source)) as archive:
        archive.extractall(folder / "source", filter="data")
    subprocess.run([*_PIP, "wheel", "--no-deps", "--wheel-dir", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("*.whl")
    return _installed(wheel, folder / "venv")


def _installed(wheel: Path, venv: Path) -> Path:
    """With the libraries of this Python, and not the fiapx that it has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([*_PIP, "--python", python, "install", "--no-deps", wheel], check=True)
    told = subprocess.run(
        [python, "-c", "import fiapx; print(fiapx.__file__)"], cwd=venv, check=True, text=True, capture_output=True
    )
    assert Path(told.stdout).is_relative_to(site)
    return venv / "bin" / "fiapx"


@pytest.mark.parametrize("role", ["gateway", "auth", "processing", "worker", "notify"])
def test_a_role_of_the_version_before_works_with_the_others(
    role: str, stack: Stack, older: Path, clip: Path, mailbox: Mailbox
) -> None:
    """No other instance of its kind is there to do the work in its place."""
    with _replaced(stack, role, older), User.registered(stack.url) as ana:
        with uploading(ana, stack.url, clip) as uploads:
            uploads.wait_for_more(10)
        for job_id in uploads.jobs:
            ana.completed(job_id)
        eventually(lambda: len(mailbox.of(ana.email)) == len(uploads.jobs))
        _tour(ana, uploads.jobs[0])
    assert set(uploads.statuses()) == {201}
    verified(stack)


def _tour(ana: User, job_id: str) -> None:
    """What else a user does with a job."""
    done = ana.job(job_id)
    zipped = ana.client.get(f"/jobs/{job_id}/result").raise_for_status().content
    assert hashlib.sha256(zipped).hexdigest() == done["result"]["sha256"]
    assert job_id in {job["id"] for job in ana.client.get("/jobs", params={"limit": 100}).json()["items"]}
    again = (
        ana.client.post("/jobs", json={"video_id": done["video"]["id"], "options": {"count": 2}})
        .raise_for_status()
        .json()
    )
    assert ana.completed(again["id"])["result"]["frames"] == 2
    video = f"/videos/{done['video']['id']}"
    ana.client.delete(video).raise_for_status()
    assert ana.client.get(video).status_code == 404


@contextmanager
def _replaced(stack: Stack, role: str, program: Path) -> Iterator[None]:
    """The first instance of a role is run by this program, and the others are away."""
    with away(stack.of(role)):
        process = stack.of(role)[0].run_by(str(program))
        try:
            process.start()
            process.wait()
            yield
        finally:
            assert process.stop() == 0
    wait_until_ready(stack)


def _git(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, check=check, capture_output=True, text=True).stdout.strip()
