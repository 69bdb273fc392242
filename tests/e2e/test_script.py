"""A shell script without a terminal, from nothing to a ZIP."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.kit import PASSWORD, Server, environment

SCRIPT = """
set -eu -o pipefail
echo "$PW" | fiapx register a@b.co --password-stdin
echo "$PW" | fiapx login a@b.co --password-stdin
fiapx upload clip.mp4 --fps 2 --wait -o out.zip && {check}
"""


@pytest.fixture
def check() -> str:
    """Somebody else's opinion about the ZIP, where there is one."""
    return "unzip -t out.zip" if shutil.which("unzip") else f"{sys.executable} -m zipfile -t out.zip"


def test_a_script_registers_uploads_waits_and_checks(server: Server, clip: Path, tmp_path: Path, check: str) -> None:
    shutil.copy(clip, tmp_path)
    done = subprocess.run(
        ["bash", "-c", SCRIPT.format(check=check)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path, PW=PASSWORD, FIAPX_SERVER=server.url),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = archive.namelist()
    assert len([name for name in names if name.startswith("frame_")]) == 6
    assert {"manifest.json", "manifest.csv"} <= set(names)
    assert (tmp_path / "profile.json").stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in server.log()
