"""What the operations page says of backups, with PostgreSQL: copied while uploads come in, and restored elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from scripts.servers.postgres import SERVICES, PrivatePostgres
from scripts.stack import FIAPX, Stack
from tests.faults.table import Observed
from tests.servers import required
from tests.stack.kit import User, schema
from tests.stack.uploads import uploading

_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.mark.fault(30, "PostgreSQL and the files, copied while uploads come in")
def test_a_backup_can_be_restored_elsewhere(
    stack: Stack, ana: User, clip: Path, tmp_path: Path, observed: Observed
) -> None:
    copy = tmp_path / "copy"
    with uploading(ana, stack.url, clip) as uploads:
        uploads.wait_for_more(5)
        ana.completed(uploads.jobs[0])
        before = set(uploads.jobs)
        live = {_variable(service): stack.postgres.url(service) for service in SERVICES}
        script = ["sh", "-c", _script(), "backup", str(stack.home / "storage"), str(copy)]
        subprocess.run(script, check=True, env=os.environ | live)
        uploads.wait_for_more(1)
    with observed.recovery(), required(), PrivatePostgres(tmp_path / "postgres") as elsewhere:
        for service in SERVICES:
            restore = ["pg_restore", "--no-owner", f"--dbname={elsewhere.url(service)}", str(copy / f"{service}.dump")]
            subprocess.run(restore, check=True)
        settings = {_variable(service): elsewhere.url(service) for service in SERVICES}
        settings |= {"FIAPX_STORAGE_URL": str(copy / "storage"), "FIAPX_HOME": str(tmp_path / "home")}
        done = subprocess.run([FIAPX, "verify", "--json"], env=os.environ | settings, capture_output=True, text=True)
        restored = set(elsewhere.ask(f"SELECT array_agg(id::text) FROM {schema(stack)}.jobs", "processing"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert before <= restored
    assert uploads.jobs[-1] not in restored
    observed.says(f"{len(restored)} jobs are in the copy, and all that they need")


def _script() -> str:
    page = _PAGE.read_text().partition("With PostgreSQL, in the same order")[2]
    found = re.search(r"```sh\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def _variable(service: str) -> str:
    return f"FIAPX_{service.upper()}_DATABASE_URL"
