"""What the client remembers of large uploads, and what it does where a server knows no such thing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fiapx.cli.unfinished import remembered, traits
from tests.unit.cli_support import Fake, fake_server, logged_in, run

LARGE = 17 * 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Fake]:
    with fake_server() as fake:
        yield fake


def test_an_older_server_gets_the_plain_upload(server: Fake, tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(bytes(LARGE))
    env = logged_in(server, tmp_path / "profile.json") | {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert run("upload", str(video), env=env).code == 0
    assert any(path.startswith("POST") and path.endswith("/uploads") for path in server.requests)
    ((_, _, name, _),) = server.uploads
    assert name == "clip.mp4"
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


def test_what_is_kept_is_found_again_until_it_is_forgotten(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with remembered(environ, "server", 1) as memory:
        assert memory.upload_id is None
        memory.keep("u1")
    with remembered(environ, "server", 2) as memory:
        assert memory.upload_id is None
    with remembered(environ, "server", 1) as memory:
        assert memory.upload_id == "u1"
        memory.forget()
    with remembered(environ, "server", 1) as memory:
        assert memory.upload_id is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_commands_never_share_an_upload(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with remembered(environ, "x") as first:
        first.keep("u1")
        with remembered(environ, "x") as second:
            assert second.upload_id is None
            second.keep("u2")
    with remembered(environ, "x") as third:
        assert third.upload_id == "u1"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"upload_id": 7}', "\0"])
def test_a_damaged_memory_is_none(tmp_path: Path, content: str) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with remembered(environ, "x") as memory:
        memory.keep("u1")
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_text(content)
    with remembered(environ, "x") as memory:
        assert memory.upload_id is None


def test_old_memories_are_dropped(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with remembered(environ, "x") as memory:
        memory.keep("u1")
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    month_ago = time.time() - 30 * 24 * 3600
    os.utime(path, (month_ago, month_ago))
    with remembered(environ, "y"):
        assert not path.exists()


def test_without_a_place_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "fiapx").write_text("a file is in the way")
    with remembered({"XDG_STATE_HOME": str(tmp_path)}, "x") as memory:
        memory.keep("u1")
    with remembered({"XDG_STATE_HOME": str(tmp_path)}, "x") as memory:
        assert memory.upload_id is None


def test_a_video_that_changes_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(1_000_000))
    os.utime(path, ns=(1, 1))
    with path.open("rb") as file:
        before = traits(path, file.fileno())
        assert traits(path, file.fileno()) == before
    with path.open("r+b") as file:
        file.seek(500_001)
        file.write(b"x")
    os.utime(path, ns=(1, 1))
    with path.open("rb") as file:
        assert traits(path, file.fileno()) != before
