"""`fiapx verify` beside a server at work, and on data that somebody has harmed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.kit import Server, run
from tests.processing_kit import eventually


def test_verify_proves_that_nothing_is_lost_and_tells_what_is(tmp_path: Path, clip: Path) -> None:
    with Server(tmp_path / "server") as server:
        account = server.account()
        job_id = account.upload(clip, fps=2)
        eventually(lambda: account.get(f"/jobs/{job_id}")["state"] == "completed", timeout=60)
        beside = run(server.folder, "verify")
        assert (beside.returncode, beside.stderr) == (0, "")
        assert beside.stdout.splitlines()[0] == "1 videos, 1 jobs accepted (1 completed), 2 objects"
        result = server.home / "storage" / server.row(job_id)["result_key"]

    result.write_bytes(result.read_bytes()[:-1])
    told = run(server.folder, "verify")
    assert told.returncode == 1
    assert told.stdout.startswith(f"damaged: job {job_id}: jobs/{job_id}/1.zip has ")
    assert "error: 1 things are not as the books say" in told.stderr

    result.unlink()
    report = json.loads(run(server.folder, "verify", "--quick", "--json").stdout)
    assert report["faults"] == [
        {"kind": "missing", "subject": f"job {job_id}", "text": f"jobs/{job_id}/1.zip is not there"}
    ]
    assert (report["videos"], report["jobs"]) == (1, {"completed": 1})


def test_without_data_there_is_nothing_to_verify(tmp_path: Path) -> None:
    done = run(tmp_path, "verify")
    assert done.returncode == 2
    assert "there is no data in" in done.stderr
    assert not (tmp_path / "data" / "processing.db").exists()
