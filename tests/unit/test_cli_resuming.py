"""What the client remembers of large uploads, and what it does where a server knows no such thing."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from fiapx.cli.api import Api
from fiapx.cli.resuming import fill
from fiapx.cli.unfinished import remembered, traits
from fiapx.core.errors import FiapxError, RateLimited, Unavailable
from fiapx.server.http import create_app
from tests.unit.cli_support import Fake, fake_server, logged_in, run, serving

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


class Video(io.BytesIO):
    """A video in memory."""

    size = 1000


def resumable(refusals: list[FiapxError]) -> FastAPI:
    """A server with one empty upload; each attempt to send something is refused as long as there are refusals."""
    app = create_app("uploads")

    @app.head("/api/v1/uploads/u1")
    def there() -> Response:
        return Response(headers={"Upload-Offset": "0"})

    @app.patch("/api/v1/uploads/u1")
    async def send(request: Request) -> Response:
        assert len(await request.body()) == Video.size
        if refusals:
            raise refusals.pop(0)
        return Response(status_code=204, headers={"Fiapx-Job-Id": "j1"})

    @app.get("/api/v1/jobs/j1")
    def job() -> dict[str, Any]:
        return {"id": "j1"}

    return app


def filled(refusals: list[FiapxError]) -> dict[str, Any]:
    with serving(resumable(refusals)) as url, Api.open(url, {"FIAPX_TOKEN": "t"}) as api:
        return fill(api, "u1", Video(bytes(Video.size)))


def test_who_is_told_to_wait_for_its_turn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it takes: other uploads of the same user may take hours."""
    monkeypatch.setattr("fiapx.cli.resuming._PATIENCE", 0.5)
    refusals: list[FiapxError] = [RateLimited(retry_after=1) for _ in range(3)]
    assert filled(refusals) == {"id": "j1"}
    assert not refusals


def test_who_gets_no_answer_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiapx.cli.resuming._PATIENCE", 0.5)
    monkeypatch.setattr("fiapx.cli.resuming._LONGEST_PAUSE", 0.2)
    with pytest.raises(Unavailable):
        filled([Unavailable() for _ in range(100)])


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
