"""The Storage port, for every adapter."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from fiapx.adapters.storage_disk import DiskStorage
from fiapx.adapters.storage_s3 import S3Storage
from fiapx.core.errors import NoSpace, NotFound, Unavailable
from fiapx.core.ports import Storage
from scripts.servers.process import free_port
from tests.s3 import s3_storage


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        return s3_storage(request.getfixturevalue("s3_server"), tmp_path / "scratch")
    return DiskStorage(tmp_path / "objects")


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    """For what only disks do."""
    return DiskStorage(tmp_path / "objects")


def put(storage: Storage, key: str, content: bytes) -> None:
    with storage.create(key) as writer:
        writer.write(content)
        writer.commit()


def test_gives_back_what_was_written(storage: Storage) -> None:
    content = os.urandom(3_000_000)
    with storage.create("videos/a") as writer:
        assert writer.write(content[:1_000_000]) == 1_000_000
        assert writer.write(memoryview(content)[1_000_000:]) == 2_000_000
        writer.commit()
    assert b"".join(storage.read("videos/a")) == content


@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 0), (0, 1), (5, 9), (7, None), (1_000_000, 1_999_999)])
def test_reads_ranges_in_bounded_chunks(storage: Storage, start: int, end: int | None) -> None:
    content = os.urandom(2_000_000)
    put(storage, "videos/a", content)
    chunks = list(storage.read("videos/a", start, end))
    assert b"".join(chunks) == content[start:end]
    assert all(len(chunk) <= 1024 * 1024 for chunk in chunks)


def test_opens_a_seekable_file_with_a_descriptor(storage: Storage) -> None:
    put(storage, "videos/a", b"0123456789")
    with storage.open("videos/a") as file:
        assert os.pread(file.fileno(), 3, 4) == b"456"
        file.seek(8)
        assert file.read() == b"89"


def test_an_object_is_invisible_until_commit(storage: Storage) -> None:
    with storage.create("videos/a") as writer:
        writer.write(b"half")
        assert list(storage.list("")) == []
        with pytest.raises(NotFound):
            storage.open("videos/a")


def test_leaving_without_commit_discards(storage: Storage, tmp_path: Path) -> None:
    with storage.create("videos/a") as writer:
        writer.write(b"half")
    with suppress(ZeroDivisionError), storage.create("videos/b") as writer:
        writer.write(b"half")
        raise ZeroDivisionError
    assert list(storage.list("")) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_new_object_replaces_the_old_one_at_commit(storage: Storage) -> None:
    put(storage, "videos/a", b"old")
    with storage.create("videos/a") as writer:
        writer.write(b"new!")
        assert b"".join(storage.read("videos/a")) == b"old"
        writer.commit()
    assert b"".join(storage.read("videos/a")) == b"new!"


def test_a_reader_keeps_an_object_that_is_deleted(storage: Storage) -> None:
    put(storage, "videos/a", b"content")
    with storage.open("videos/a") as file:
        storage.delete("videos/a")
        assert file.read() == b"content"


def test_what_is_missing_is_not_found(storage: Storage) -> None:
    put(storage, "jobs/j/1.zip", b"x")
    for key in ("videos/a", "jobs", "jobs/j", "jobs/j/1.zip/more"):
        with pytest.raises(NotFound):
            storage.open(key)
        with pytest.raises(NotFound):
            next(storage.read(key))


def signed(storage: Storage, ttl: float = 60) -> str:
    url = storage.address("videos/a", ttl, disposition='attachment; filename="f.zip"', media_type="application/zip")
    assert url is not None
    return url


def test_a_folder_has_no_addresses(folder: Storage) -> None:
    put(folder, "videos/a", b"x")
    assert folder.address("videos/a", 60, disposition="attachment", media_type="application/zip") is None


def test_anybody_can_read_at_an_address_for_a_while(s3_server: str, tmp_path: Path) -> None:
    """moto looks at neither signatures nor times, so what they cover is read from the URL."""
    bucket = s3_storage(s3_server, tmp_path / "scratch")
    put(bucket, "videos/a", b"0123456789")
    url = signed(bucket)
    whole = httpx.get(url, trust_env=False)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert whole.headers["content-disposition"] == 'attachment; filename="f.zip"'
    assert whole.headers["content-type"] == "application/zip"
    part = httpx.get(url, headers={"Range": "bytes=3-5"}, trust_env=False)
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"345", "bytes 3-5/10")
    query = httpx.URL(url).params
    assert (query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]) == ("60", "host")
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert "testing" not in url.replace("Credential=testing%2F", "")  # the secret is not among it


def test_addresses_are_those_that_clients_reach(tmp_path: Path) -> None:
    def at(endpoint: str | None, public: str | None) -> str:
        bucket = S3Storage(
            "my-bucket",
            access_key="k",
            secret_key="s",
            scratch=tmp_path,
            prefix="some/where",
            endpoint=endpoint,
            public_endpoint=public,
        )
        return signed(bucket).partition("?")[0]

    inner, outer = "http://10.0.0.1:9000", "https://files.example.org"
    assert at(inner, None) == f"{inner}/my-bucket/some/where/videos/a"
    assert at(inner, outer) == f"{outer}/my-bucket/some/where/videos/a"
    assert at(None, None) == "https://my-bucket.s3.amazonaws.com/some/where/videos/a"


def test_deletes_and_does_not_mind_repeats(storage: Storage) -> None:
    put(storage, "jobs/j/1.zip", b"x")
    storage.delete("jobs/j/1.zip")
    storage.delete("jobs/j/1.zip")
    storage.delete("jobs/never/1.zip")
    assert list(storage.list("")) == []


@pytest.mark.parametrize("key", ["", "/", "../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\0b", "a\nb", "tmp/x"])
def test_refuses_keys_that_lead_elsewhere(storage: Storage, key: str) -> None:
    with pytest.raises(NotFound):
        storage.create(key)
    with pytest.raises(NotFound):
        storage.open(key)
    with pytest.raises(NotFound):
        storage.delete(key)


def test_lists_by_prefix_with_ages(storage: Storage) -> None:
    for key in ("videos/a", "videos/ab", "jobs/j/1.zip", "jobs/j/2.zip"):
        put(storage, key, b"x")
    assert sorted(key for key, _ in storage.list("videos/")) == ["videos/a", "videos/ab"]
    assert sorted(key for key, _ in storage.list("jobs/j/2")) == ["jobs/j/2.zip"]
    assert [key for key, _ in storage.list("nothing/")] == []
    assert all(0 <= age < 60 for _, age in storage.list(""))


def test_sweeps_abandoned_writers_but_no_living_ones(folder: Storage, tmp_path: Path) -> None:
    abandoned = tmp_path / "objects" / "tmp" / "left-by-a-crash"
    abandoned.write_bytes(b"half")
    with folder.create("videos/a") as writer:
        writer.write(b"still writing")
        assert folder.sweep(3600) == 0
        assert folder.sweep(0) == 1
        assert not abandoned.exists()
        writer.commit()
    assert b"".join(folder.read("videos/a")) == b"still writing"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_no_space_and_leaves_nothing(
    folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    def fill() -> None:
        with folder.create("videos/a") as writer:
            monkeypatch.setattr(os, call, full)
            writer.write(b"x")
            writer.commit()

    with pytest.raises(NoSpace):
        fill()
    monkeypatch.undo()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_commits_beside_deletions_of_the_same_folder(storage: Storage) -> None:
    def churn(number: int) -> None:
        for _ in range(50):
            put(storage, f"jobs/j/{number}.zip", b"x")
            storage.delete(f"jobs/j/{number}.zip")

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    put(storage, "jobs/j/9.zip", b"x")
    assert [key for key, _ in storage.list("jobs/")] == ["jobs/j/9.zip"]


def test_commit_syncs_the_file_before_its_name_and_the_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(fd: int) -> None:
        order.append(str(Path(f"/proc/self/fd/{fd}").readlink()).removeprefix(str(tmp_path)).split("-")[0])
        fsync(fd)

    def spy_replace(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    storage = DiskStorage(tmp_path / "o")
    with storage.create("jobs/j/1.zip") as writer:
        monkeypatch.setattr(os, "fsync", spy_fsync)
        monkeypatch.setattr(Path, "replace", spy_replace)
        writer.write(b"x")
        writer.commit()
    assert order[0].startswith("/o/tmp/")
    assert order[1:] == ["/o", "/o/jobs", "rename", "/o/jobs/j", "/o/tmp"]


def test_a_reserve_is_left_to_others(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    with DiskStorage(tmp_path, reserve=free * 2).create("videos/1") as writer, pytest.raises(NoSpace):
        writer.write(b"x")
    with DiskStorage(tmp_path, reserve=free // 2).create("videos/1") as writer:
        writer.write(b"x")
        writer.commit()
    assert [key for key, _ in DiskStorage(tmp_path).list("videos/")] == ["videos/1"]


@pytest.mark.parametrize(("share", "rests"), [(0.5, False), (2, True)])
def test_a_disk_without_its_reserve_is_left_alone(tmp_path: Path, share: float, rests: bool) -> None:
    disk = os.statvfs(tmp_path)
    assert bool(DiskStorage(tmp_path, reserve=int(disk.f_bavail * disk.f_frsize * share)).resting()) == rests


def test_a_store_that_is_away_is_unavailable(tmp_path: Path) -> None:
    away = S3Storage(
        "b", endpoint=f"http://127.0.0.1:{free_port()}", access_key="k", secret_key="s", scratch=tmp_path, timeout=0.2
    )
    with pytest.raises(Unavailable):
        away.check()
    with pytest.raises(Unavailable):
        put(away, "videos/a", b"x")


def test_a_store_that_is_silent_is_told_of_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        storage = S3Storage("b", endpoint=address, access_key="k", secret_key="s", scratch=tmp_path)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            storage.check()
        assert time.monotonic() - started < 15  # and not the minute of its other requests


def test_a_full_scratch_folder_is_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> BinaryIO:
        return open("/dev/full", "w+b")  # noqa: PTH123 - like a temporary file

    monkeypatch.setattr("fiapx.adapters.storage_s3.tempfile.TemporaryFile", full)
    storage = S3Storage("b", endpoint="http://127.0.0.1:1", access_key="k", secret_key="s", scratch=tmp_path)
    with storage.create("videos/a") as writer:
        writer.write(b"never wanted")
    with pytest.raises(NoSpace):
        put(storage, "videos/a", b"x")
