"""The client against the real server: sessions, batches, downloads that go on, and accounts that end."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
import zipfile
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.e2e.kit import PASSWORD, Account, Server, run
from tests.processing_kit import eventually


class Person:
    """Somebody at a terminal of their own: a working folder, a profile, and no token in the environment."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.email = f"{uuid.uuid4().hex[:12]}@example.com"
        self._environ = {"FIAPX_SERVER": server.url}

    def run(self, *arguments: str | Path, stdin: str = "") -> CompletedProcess[str]:
        return run(self.folder, *arguments, stdin=stdin, environ=self._environ)

    def log_in(self) -> None:
        for command in ("register", "login"):
            done = self.run(command, self.email, "--password-stdin", stdin=f"{PASSWORD}\n")
            assert done.returncode == 0, done.stderr

    def profile(self) -> dict[str, str]:
        return dict(json.loads((self.folder / "profile.json").read_text()))


def test_a_session_begins_ends_and_needs_the_right_password(server: Server, tmp_path: Path) -> None:
    eva = Person(tmp_path, server)
    assert eva.run("whoami").returncode == 4
    eva.log_in()
    wrong = eva.run("login", eva.email, "--password-stdin", "--json", stdin="not-the-password\n")
    assert wrong.returncode == 4
    assert json.loads(wrong.stdout)["error"]["code"] == "invalid_credentials"
    assert eva.run("whoami").stdout == f"{eva.email}\n"  # a failed log-in takes no session away
    token = eva.profile()["access_token"]
    assert eva.run("logout").returncode == 0
    gone = eva.run("whoami", "--json")
    assert (gone.returncode, json.loads(gone.stdout)["error"]["code"]) == (4, "auth_required")
    revoked = run(tmp_path, "whoami", "--json", environ={"FIAPX_SERVER": server.url, "FIAPX_TOKEN": token})
    assert (revoked.returncode, json.loads(revoked.stdout)["error"]["code"]) == (4, "invalid_token")


def test_an_expired_token_is_renewed_in_silence(clip: Path, tmp_path: Path) -> None:
    # Whole seconds: a token is good for two of them at least, however slow this machine is.
    with Server(tmp_path / "server", FIAPX_ACCESS_TTL="3") as server:
        eva = Person(tmp_path, server)
        eva.log_in()
        before = eva.profile()
        time.sleep(3.5)
        done = eva.run("upload", clip, "--fps", "2", "--wait", "-o", "out.zip")
        assert (done.returncode, done.stdout) == (0, "out.zip: 6 frames, " + done.stdout.partition("frames, ")[2])
        assert len(done.stderr.splitlines()) == 1  # the job's id
        after = eva.profile()
        assert after["access_token"] != before["access_token"]
        assert after["refresh_token"] != before["refresh_token"]


def test_a_batch_with_one_bad_video(ana: Account, clip: Path, tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(clip, tmp_path / name)
    (tmp_path / "bad.mp4").write_text("no video\n" * 100)
    done = ana.run(tmp_path, "upload", "one.mp4", "bad.mp4", "two.mp4", "--wait", "-o", "out", "--json")
    assert done.returncode == 6
    results = json.loads(done.stdout)["results"]
    assert [result["input"] for result in results] == ["one.mp4", "bad.mp4", "two.mp4"]
    assert [result.get("error", {}).get("code") for result in results] == [None, "unsupported_format", None]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.zip", "two.zip"]
    for result in results[::2]:
        content = (tmp_path / result["output"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == result["sha256"]


def test_a_job_gives_what_extract_gives(ana: Account, clip: Path, tmp_path: Path) -> None:
    flags = ("--every", "250ms", "--width", "96", "--start", "0.5", "--end", "2.5", "--quality", "80")
    local = run(tmp_path, "extract", clip, *flags, "-o", "local.zip")
    remote = ana.run(tmp_path, "upload", clip, *flags, "-o", "remote.zip")
    assert (local.returncode, remote.returncode) == (0, 0)
    assert (tmp_path / "local.zip").read_bytes() == (tmp_path / "remote.zip").read_bytes()


def test_a_download_goes_on_where_it_stopped(server: Server, ana: Account, numbered: Path, tmp_path: Path) -> None:
    job = ana.ended(ana.upload(numbered, fps=5))
    whole = ana.run(tmp_path, "download", job["id"], "-o", "whole.zip")
    assert whole.returncode == 0, whole.stderr
    content = (tmp_path / "whole.zip").read_bytes()
    assert len(content) == job["result"]["size"]
    (tmp_path / "again.zip.part").write_bytes(content[: len(content) // 3])
    (tmp_path / "again.zip.part.etag").write_text(job["result"]["sha256"])
    again = ana.run(tmp_path, "download", job["id"], "-o", "again.zip")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again.zip").read_bytes() == content
    answers = [line for line in server.logged("request") if line["path"] == f"/api/v1/jobs/{job['id']}/result"]
    assert [(line["status"], line["bytes"]) for line in answers] == [
        (200, len(content)),
        (206, len(content) - len(content) // 3),
    ]
    assert sorted(path.name for path in tmp_path.iterdir() if ".part" in path.name) == []


def test_parts_of_a_result_are_ranges_of_its_zip(ana: Account, clip: Path, tmp_path: Path) -> None:
    job = ana.ended(ana.upload(clip, fps=2))
    path = f"/jobs/{job['id']}"
    answer = ana.request("GET", f"{path}/result")
    assert answer.headers["x-checksum-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert int(answer.headers["content-length"]) == len(answer.content)
    (tmp_path / "out.zip").write_bytes(answer.content)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert ana.get(f"{path}/manifest") == manifest
        for number, frame in enumerate(manifest["frames"], 1):
            assert ana.request("GET", f"{path}/frames/{number}").content == archive.read(frame["file"])
    assert ana.request("GET", f"{path}/frames/7").status_code == 404
    head = ana.request("GET", f"{path}/result", headers={"Range": "bytes=0-3"})
    assert (head.status_code, head.content) == (206, answer.content[:4])


def test_jobs_are_listed_retried_and_deleted(server: Server, ana: Account, clip: Path, tmp_path: Path) -> None:
    first = ana.ended(ana.upload(clip))["id"]
    retried = ana.run(tmp_path, "retry", first, "--wait", "--json")
    assert retried.returncode == 0, retried.stderr
    second = json.loads(retried.stdout)
    assert (second["state"], second["retry_of"]) == ("completed", first)
    listed = ana.run(tmp_path, "jobs", "--state", "completed")
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == [second["id"], first]
    video = second["video"]["id"]
    assert ana.run(tmp_path, "delete", first, second["id"], video).returncode == 0
    assert ana.run(tmp_path, "jobs").stdout == ana.run(tmp_path, "videos").stdout == ""
    assert not server.files("jobs") & {f"jobs/{first}/1.zip", f"jobs/{second['id']}/1.zip"}
    assert f"videos/{video}" not in server.files()


def test_the_same_again_costs_neither_upload_nor_work(server: Server, ana: Account, clip: Path, tmp_path: Path) -> None:
    flags = ("--fps", "2", "--width", "96")
    before = len(server.logged("attempt_started"))
    first = json.loads(ana.run(tmp_path, "upload", clip, *flags, "-o", "first.zip", "--json").stdout)["results"][0]
    again = json.loads(ana.run(tmp_path, "upload", clip, *flags, "-o", "again.zip", "--json").stdout)["results"][0]
    video = first["job"]["video"]
    third = json.loads(ana.run(tmp_path, "submit", video["id"], *flags, "-o", "third.zip", "--json").stdout)
    assert [again["job"][key] for key in ("reused_from", "video", "result")] == [
        first["job"]["id"],
        video,
        first["job"]["result"],
    ]
    assert len(server.logged("attempt_started")) == before + 1
    assert len(ana.get("/videos")["items"]) == 1
    for name in ("again.zip", "third.zip"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "first.zip").read_bytes()
    fresh = ana.run(tmp_path, "submit", video["id"], *flags, "--fresh", "-o", "fresh.zip")
    assert (fresh.returncode, len(server.logged("attempt_started"))) == (0, before + 2)
    assert (tmp_path / "fresh.zip").read_bytes() == (tmp_path / "first.zip").read_bytes()
    assert ana.run(tmp_path, "delete", first["job"]["id"], again["job"]["id"]).returncode == 0
    last = third["results"][0]["job"]["id"]
    assert ana.run(tmp_path, "download", last, "-o", "last.zip").returncode == 0
    assert ana.run(tmp_path, "delete", last).returncode == 0
    assert not server.files(f"jobs/{first['job']['id']}")


def test_one_key_makes_one_job(ana: Account, clip: Path) -> None:
    key = {"Idempotency-Key": "once"}
    made = []
    for _ in range(2):
        with clip.open("rb") as file:
            answer = ana.request("POST", "/jobs", data={"fps": "2"}, files={"file": ("clip.mp4", file)}, headers=key)
        made.append(answer.raise_for_status().json()["id"])
    assert made[0] == made[1]
    assert len(ana.get("/jobs")["items"]) == len(ana.get("/videos")["items"]) == 1


@pytest.mark.parametrize("at_work", [False, True])
def test_with_an_account_go_its_objects(
    server: Server, ana: Account, clip: Path, long: Path, at_work: bool, tmp_path: Path
) -> None:
    jobs = [ana.ended(ana.upload(clip))]
    if at_work:
        jobs.append(ana.job(ana.upload(long, fps=25)))
        ana.reach(jobs[-1]["id"])
    names = {f"videos/{job['video']['id']}" for job in jobs} | {f"jobs/{jobs[0]['id']}/1.zip"}
    assert names <= server.files()
    assert ana.request("DELETE", "/auth/me", json={"password": "not-the-password"}).status_code == 401
    assert ana.request("DELETE", "/auth/me", json={"password": PASSWORD}).status_code == 204
    assert ana.request("GET", "/jobs").status_code == 401
    assert ana.run(tmp_path, "whoami").returncode == 4
    eventually(lambda: not names & server.files() and not server.files("tmp"))
    eventually(lambda: not server.decoders(), timeout=20)
