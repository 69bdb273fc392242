from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina

from fiapx.cli.api import Api
from fiapx.core.errors import PayloadTooLarge, RateLimited
from scripts.servers.process import free_port
from tests.unit.cli_support import Cutter, Fake, fake_server, logged_in, run
from tests.unit.cli_support import video as known


@pytest.fixture(scope="module")
def server() -> Iterator[Fake]:
    with fake_server() as server:
        yield server


@pytest.fixture
def fake(server: Fake) -> Fake:
    server.reset()
    return server


@pytest.fixture
def env(fake: Fake, tmp_path: Path) -> dict[str, str]:
    return logged_in(fake, tmp_path / "profile.json")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def video(folder: Path, name: str = "clip.mp4", size: int = 3_000_000) -> str:
    """Bytes to upload; returns their SHA-256."""
    content = random.Random(name).randbytes(size)
    (folder / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


# --- upload -----------------------------------------------------------------------------------


def test_upload_sends_options_and_bytes(fake: Fake, env: dict[str, str], here: Path) -> None:
    sha256 = video(here)
    ran = run("upload", "clip.mp4", "--fps", "1/2", "--width", "640", env=env)
    assert (ran.code, ran.out) == (0, "clip.mp4: job j1\n")
    ((key, fields, name, received),) = fake.uploads
    assert key
    assert (fields, name, received) == ({"fps": "1/2", "width": "640"}, "clip.mp4", sha256)


def test_several_times_are_one_field(fake: Fake, env: dict[str, str], here: Path) -> None:
    video(here)
    assert run("upload", "clip.mp4", "--at", "1,1m30s,50%", "--drop-black", env=env).code == 0
    assert fake.uploads[0][1] == {"at": "1,90,50%", "drop_black": "true"}


def test_upload_wait_and_download(fake: Fake, env: dict[str, str], here: Path) -> None:
    video(here)
    ran = run("upload", "clip.mp4", "--wait", "-o", "out.zip", "--json", env=env)
    assert ran.code == 0
    (result,) = ran.json["results"]
    assert result["job"]["state"] == "completed"
    assert result["output"] == "out.zip"
    assert (here / "out.zip").read_bytes() == fake.result
    assert result["sha256"] == hashlib.sha256(fake.result).hexdigest()
    assert run("upload", "clip.mp4", "-o", "-", env=env).raw == fake.result
    assert run("upload", "clip.mp4", "--wait", env=env).out.endswith("clip.mp4: completed, 3 frames, 100.0 kB\n")


def test_existing_output_is_found_before_the_upload(fake: Fake, env: dict[str, str], here: Path) -> None:
    video(here)
    (here / "out.zip").touch()
    assert run("upload", "clip.mp4", "-o", "out.zip", env=env).code == 2
    assert fake.uploads == []


def test_some_uploads_fail(fake: Fake, env: dict[str, str], here: Path) -> None:
    video(here)
    video(here, "bad.mp4")
    ran = run("upload", "bad.mp4", "clip.mp4", "gone.mp4", "--wait", "-o", "zips", "--json", env=env)
    assert ran.code == 6
    bad, good, gone = ran.json["results"]
    assert bad["job"]["state"] == "failed"
    assert bad["error"]["code"] == "corrupt_media"
    assert gone["error"]["code"] == "input_not_found"
    assert good["output"] == "zips/clip.zip"
    assert [path.name for path in (here / "zips").iterdir()] == ["clip.zip"]
    assert run("upload", "bad.mp4", "--wait", env=env).code == 1


def test_what_the_server_has_is_not_sent_again(fake: Fake, env: dict[str, str], here: Path) -> None:
    sha256 = video(here)
    fake.videos = {"v7": known("v7", "clip.mp4", 3_000_000, sha256)}
    ran = run("upload", "clip.mp4", "--fps", "2", env=env)
    assert (ran.code, ran.out) == (0, "clip.mp4: job j1, with the result of j0\n")
    assert run("upload", "clip.mp4", "--fresh", env=env).out == "clip.mp4: job j2\n"
    assert fake.uploads == []
    assert fake.submitted == [
        {"video_id": "v7", "options": {"fps": "2"}, "fresh": False},
        {"video_id": "v7", "options": {}, "fresh": True},
    ]


@pytest.mark.parametrize(("name", "size", "same"), [("x.mp4", 3_000_000, True), ("clip.mp4", 3_000_000, False)])
def test_anything_else_is_sent(fake: Fake, env: dict[str, str], here: Path, name: str, size: int, same: bool) -> None:
    sha256 = video(here)
    fake.videos = {"v7": known("v7", name, size, sha256 if same else "0")}
    assert run("upload", "clip.mp4", "--fresh", env=env).code == 0
    ((_, fields, _, received),) = fake.uploads
    assert (fields, received) == ({"fresh": "true"}, sha256)


def test_a_video_that_was_just_deleted_is_sent(fake: Fake, env: dict[str, str], here: Path) -> None:
    sha256 = video(here)
    gone = known("gone", "clip.mp4", 3_000_000, sha256)
    fake.videos = {"listed": gone}
    assert run("upload", "clip.mp4", env=env).code == 0
    ((_, _, _, received),) = fake.uploads
    assert received == sha256


# --- submit -----------------------------------------------------------------------------------


def test_submit_needs_no_file(fake: Fake, env: dict[str, str], here: Path) -> None:
    fake.videos = {"v1": known("v1", "a.mp4", 1), "v2": known("v2", "b.mp4", 1)}
    ran = run("submit", "v1", "--every", "2s", "--width", "320", env=env)
    assert (ran.code, ran.out) == (0, "v1: job j1, with the result of j0\n")
    assert fake.submitted == [{"video_id": "v1", "options": {"every": "2", "width": 320}, "fresh": False}]
    assert run("submit", "v1", "--fresh", "--wait", env=env).out == "v1: job j2\nv1: completed, 3 frames, 100.0 kB\n"
    assert len(set(fake.keys)) == 2
    ran = run("submit", "v1", "v2", "v1", "-o", "zips", "--json", env=env)
    assert ran.code == 0
    assert [(result["id"], result["output"]) for result in ran.json["results"]] == [
        ("v1", "zips/a.zip"),
        ("v2", "zips/b.zip"),
    ]
    assert (here / "zips/b.zip").read_bytes() == fake.result


def test_submit_tells_what_is_wrong(fake: Fake, env: dict[str, str], here: Path) -> None:
    ran = run("submit", "nothing", env=env)
    assert (ran.code, ran.out) == (1, "")
    assert "no video with this id" in ran.err
    assert "fiapx videos" in ran.err
    ran = run("submit", "v1", "nothing", "-o", "zips", "--json", env=env)
    assert ran.code == 6
    assert [result.get("error", {}).get("code") for result in ran.json["results"]] == [None, "not_found"]
    assert run("submit", "v1", "--fps", "0", env=env).code == 2
    (here / "out.zip").touch()
    assert run("submit", "v1", "-o", "out.zip", env=env).code == 2
    assert len(fake.submitted) == 1


# --- transport --------------------------------------------------------------------------------


def test_a_dropped_upload_is_sent_again_under_the_same_key(
    fake: Fake, env: dict[str, str], here: Path, tmp_path: Path
) -> None:
    sha256 = video(here)
    with Cutter(fake.url, up=[1_000_000, 2_000_000, None]).open() as url:
        env = logged_in(fake, tmp_path / "profile.json", url)
        assert run("upload", "clip.mp4", env=env).code == 0
    ((_, _, _, received),) = fake.uploads
    assert received == sha256
    assert len(fake.keys) == 3
    assert len(set(fake.keys)) == 1


def test_a_server_that_may_have_taken_the_upload_is_asked_for_longer(
    fake: Fake, env: dict[str, str], here: Path, tmp_path: Path
) -> None:
    """Who gave up and asked anew would have it twice."""
    video(here)
    with (
        Cutter(fake.url, up=[1_000_000] * 7 + [None]).open() as url,
        stamina.set_testing(True, attempts=12),
    ):
        assert run("upload", "clip.mp4", env=logged_in(fake, tmp_path / "profile.json", url)).code == 0
    assert len(fake.uploads) == 1
    assert len(set(fake.keys)) == 1


def test_a_server_that_is_not_there_is_told_of_soon(
    fake: Fake, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(here)
    tried = []
    once = Api.once

    def counted(self: Api, *args: Any, **more: Any) -> Any:
        tried.append(args)
        return once(self, *args, **more)

    monkeypatch.setattr(Api, "once", counted)
    nowhere = logged_in(fake, tmp_path / "profile.json", f"http://127.0.0.1:{free_port()}")
    with stamina.set_testing(True, attempts=12):
        assert run("upload", "clip.mp4", env=nowhere).code == 5
    assert len(tried) == 4


def test_a_busy_server_gets_the_upload_again_under_the_same_key(
    fake: Fake, env: dict[str, str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(here)
    busy = [RateLimited(retry_after=0), RateLimited(retry_after=0)]
    accept = fake.job

    def job(*args: Any, **extra: Any) -> dict[str, Any]:
        if busy:
            raise busy.pop()
        return accept(*args, **extra)

    monkeypatch.setattr(fake, "job", job)
    assert run("upload", "clip.mp4", env=env).code == 0
    assert len(fake.keys) == 3
    assert len(set(fake.keys)) == 1


def test_the_log_in_is_refreshed_before_the_bytes_go(fake: Fake, env: dict[str, str], here: Path) -> None:
    video(here)
    fake.access.clear()
    assert run("upload", "clip.mp4", env=env).code == 0
    assert fake.requests.count("POST /jobs") == 1


def test_too_large(fake: Fake, env: dict[str, str], here: Path) -> None:
    video(here)
    run("whoami", env=env)
    fake.failing = [PayloadTooLarge(), PayloadTooLarge()]
    ran = run("upload", "clip.mp4", "--json", env=env)
    assert (ran.code, ran.json["error"]["code"]) == (1, "payload_too_large")


def test_timeout(fake: Fake, env: dict[str, str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video(here)
    fake.job("j2", "running")
    accept = fake.job
    monkeypatch.setattr(fake, "job", lambda *_, **__: accept("j2", "running"))
    began = time.monotonic()
    ran = run("upload", "clip.mp4", "--wait", "--timeout", "1", "--json", env=env)
    assert 1 <= time.monotonic() - began < 3
    assert ran.code == 124
    assert ran.json["results"][0]["error"]["code"] == "wait_timed_out"


def test_not_logged_in(fake: Fake, tmp_path: Path, here: Path) -> None:
    video(here)
    env = {"FIAPX_CONFIG": str(tmp_path / "none"), "FIAPX_SERVER": fake.url}
    assert run("upload", "clip.mp4", env=env).code == 4
    assert fake.requests == []


# --- download ---------------------------------------------------------------------------------


def test_download_is_named_after_its_video(fake: Fake, env: dict[str, str], here: Path) -> None:
    fake.job("j1", name="../../férias.mp4")
    ran = run("download", "j1", env=env)
    assert (ran.code, ran.out) == (0, "férias.zip: 3 frames, 100.0 kB\n")
    assert (here / "férias.zip").read_bytes() == fake.result
    assert [path.name for path in here.iterdir()] == ["férias.zip"]
    assert run("download", "j1", env=env).code == 2
    assert run("download", "j1", "--overwrite", env=env).code == 0


def test_download_to_standard_output_and_a_folder(fake: Fake, env: dict[str, str], here: Path) -> None:
    fake.job("j1")
    assert run("download", "j1", "-o", "-", env=env).raw == fake.result
    assert run("download", "j1", "-o", "new/", env=env).code == 0
    assert (here / "new" / "clip.zip").read_bytes() == fake.result


def test_jobs_without_a_result(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", "running")
    fake.job("j2", "failed", error={"code": "no_frames", "message": "None."})
    fake.job("j3", "cancelled")
    ran = run("download", "j1", "j2", "j3", "missing", "--json", env=env)
    assert ran.code == 1
    codes = [result["error"]["code"] for result in ran.json["results"]]
    assert codes == ["job_not_finished", "no_frames", "cancelled", "not_found"]


def test_same_name_twice(fake: Fake, env: dict[str, str], here: Path) -> None:
    fake.job("j1")
    fake.job("j2")
    assert run("download", "j1", "j2", env=env).code == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("resumable", [True, False])
def test_broken_downloads_go_on(fake: Fake, tmp_path: Path, here: Path, seed: int, resumable: bool) -> None:
    chance = random.Random(seed)
    fake.result = chance.randbytes(2_000_000)
    fake.resumable = resumable
    fake.job("j1")
    cuts: list[int | None] = [chance.randrange(2_000, 1_500_000) for _ in range(3)]
    proxy = Cutter(fake.url, down=cuts)
    with proxy.open() as url:
        env = logged_in(fake, tmp_path / "profile.json", url)
        ran = run("download", "j1", env=env)
    assert ran.code == 0, ran.err
    assert (here / "clip.zip").read_bytes() == fake.result
    assert [path.name for path in here.iterdir()] == ["clip.zip"]
    assert proxy.connections > 1


@pytest.mark.parametrize("offset", [1, 99_999, 100_000])
def test_a_later_run_goes_on(fake: Fake, env: dict[str, str], here: Path, offset: int) -> None:
    fake.job("j1")
    (here / "clip.zip.part").write_bytes(fake.result[:offset])
    (here / "clip.zip.part.etag").write_text(hashlib.sha256(fake.result).hexdigest())
    assert run("download", "j1", env=env).code == 0
    assert fake.ranges == ([f"bytes={offset}-"] if offset < len(fake.result) else [])
    assert (here / "clip.zip").read_bytes() == fake.result
    assert [path.name for path in here.iterdir()] == ["clip.zip"]


@pytest.mark.parametrize("memory", [None, "another", "\xff"])
def test_a_part_of_something_else_is_not_gone_on_with(
    fake: Fake, env: dict[str, str], here: Path, memory: str | None
) -> None:
    fake.job("j1")
    (here / "clip.zip.part").write_bytes(b"something else")
    if memory is not None:
        (here / "clip.zip.part.etag").write_bytes(memory.encode("latin-1"))
    assert run("download", "j1", env=env).code == 0
    assert fake.ranges == [None]
    assert (here / "clip.zip").read_bytes() == fake.result


def test_a_server_that_goes_away_leaves_the_part(fake: Fake, tmp_path: Path, here: Path) -> None:
    fake.result = random.Random(1).randbytes(3_000_000)
    fake.job("j1")
    with Cutter(fake.url, down=[1_000_000, *[0] * 50]).open() as url, stamina.set_testing(True, attempts=1):
        ran = run("download", "j1", env=logged_in(fake, tmp_path / "profile.json", url))
    assert ran.code == 5
    assert "Run the same command again" in ran.err
    kept = (here / "clip.zip.part").read_bytes()
    assert 100_000 < len(kept) < 1_000_000
    assert not (here / "clip.zip").exists()
    env = logged_in(fake, tmp_path / "profile.json")
    assert run("download", "j1", env=env).code == 0
    assert fake.ranges[-1] == f"bytes={len(kept)}-"
    assert (here / "clip.zip").read_bytes() == fake.result


def test_wrong_bytes_are_removed(fake: Fake, env: dict[str, str], here: Path) -> None:
    fake.promised_sha256 = "0" * 64
    fake.job("j1")
    ran = run("download", "j1", "--json", env=env)
    assert (ran.code, ran.json["results"][0]["error"]["code"]) == (5, "checksum_mismatch")
    assert list(here.iterdir()) == []


def test_a_damaged_part_is_noticed(fake: Fake, env: dict[str, str], here: Path) -> None:
    fake.job("j1")
    (here / "clip.zip.part").write_bytes(b"X" * 500)
    (here / "clip.zip.part.etag").write_text(hashlib.sha256(fake.result).hexdigest())
    assert run("download", "j1", env=env).code == 5
    assert list(here.iterdir()) == []
    assert run("download", "j1", env=env).code == 0
