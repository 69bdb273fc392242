"""What belongs to somebody else looks exactly like what is not there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.kit import Account, Server, get

_CHANGING = {"date", "x-request-id"}


@dataclass(frozen=True)
class Owned:
    """A finished job and its video."""

    owner: Account
    job_id: str
    video_id: str


@pytest.fixture(scope="module")
def owned(server: Server, clip: Path) -> Owned:
    owner = server.account()
    job = owner.ended(owner.upload(clip))
    assert job["state"] == "completed"
    return Owned(owner, job["id"], job["video"]["id"])


def _operations(server: Server) -> Iterator[tuple[str, str]]:
    """Every method and path that names a job or a video, from the server's own description."""
    paths = get(f"{server.url}/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if "{job_id}" in path or "{video_id}" in path:
            for method in methods:
                yield method.upper(), path.removeprefix("/api/v1")


def _seen(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k not in _CHANGING}


def test_every_route_answers_as_for_a_missing_id(server: Server, ana: Account, owned: Owned) -> None:
    operations = list(_operations(server))
    assert {path for _, path in operations} >= {
        "/videos/{video_id}",
        "/jobs/{job_id}",
        "/jobs/{job_id}/cancel",
        "/jobs/{job_id}/retry",
        "/jobs/{job_id}/events",
        "/jobs/{job_id}/result",
        "/jobs/{job_id}/manifest",
        "/jobs/{job_id}/frames/{number}",
    }
    missing = {"job_id": str(uuid.uuid4()), "video_id": str(uuid.uuid4()), "number": 1}
    real = {"job_id": owned.job_id, "video_id": owned.video_id, "number": 1}
    for method, path in [*operations, ("HEAD", "/jobs/{job_id}/result")]:
        theirs = _seen(ana.request(method, path.format(**real)))
        assert theirs[0] == 404, (method, path)
        assert theirs == _seen(ana.request(method, path.format(**missing))), (method, path)


def test_a_job_cannot_be_made_of_the_video_of_another(ana: Account, owned: Owned) -> None:
    theirs = ana.request("POST", "/jobs", json={"video_id": owned.video_id})
    assert theirs.status_code == 404
    assert _seen(theirs) == _seen(ana.request("POST", "/jobs", json={"video_id": str(uuid.uuid4())}))
    assert ana.get("/jobs")["items"] == []
    assert ana.get("/videos")["items"] == []


def test_a_running_job_of_another_cannot_be_cancelled(server: Server, ana: Account, long: Path) -> None:
    owner = server.account()
    job_id = owner.upload(long, fps=25)
    owner.reach(job_id)
    assert ana.request("POST", f"/jobs/{job_id}/cancel").status_code == 404
    assert ana.request("GET", f"/jobs/{job_id}/events").status_code == 404
    assert owner.job(job_id)["state"] == "running"
    owner.request("POST", f"/jobs/{job_id}/cancel").raise_for_status()


@pytest.mark.parametrize("command", ["show", "watch", "download", "cancel", "retry", "delete"])
def test_commands_tell_no_difference(command: str, ana: Account, owned: Owned, tmp_path: Path) -> None:
    missing = str(uuid.uuid4())
    theirs = ana.run(tmp_path, command, owned.job_id)
    absent = ana.run(tmp_path, command, missing)
    assert (theirs.returncode, theirs.stdout) == (1, "")
    assert theirs.stderr.replace(owned.job_id, missing) == absent.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_owner_has_lost_nothing(owned: Owned) -> None:
    assert owned.owner.job(owned.job_id)["state"] == "completed"
    assert owned.owner.request("GET", f"/videos/{owned.video_id}").status_code == 200
    assert owned.owner.request("GET", f"/jobs/{owned.job_id}/frames/1").headers["content-type"] == "image/jpeg"
    assert len(owned.owner.get("/jobs")["items"]) == 1
