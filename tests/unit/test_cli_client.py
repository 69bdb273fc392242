from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from fastapi import Response

from fiapx.cli.profile import Profile, ProfileStore, check_secure, server_url
from fiapx.core.errors import RateLimited, Unavailable, UsageError
from fiapx.core.options import ExtractOptions
from tests.unit.cli_support import Fake, fake_server, logged_in, run

FIAPX = str(Path(sys.executable).with_name("fiapx"))


@pytest.fixture(scope="module")
def server() -> Iterator[Fake]:
    with fake_server() as server:
        yield server


@pytest.fixture
def fake(server: Fake) -> Fake:
    server.reset()
    return server


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "config" / "profile.json"


@pytest.fixture
def env(fake: Fake, profile: Path) -> dict[str, str]:
    profile.parent.mkdir()
    return logged_in(fake, profile)


# --- accounts ---------------------------------------------------------------------------------


def test_register_log_in_and_out(fake: Fake, profile: Path) -> None:
    env = {"FIAPX_CONFIG": str(profile), "FIAPX_SERVER": fake.url}
    assert run("register", "a@b.co", "--password-stdin", env=env, stdin="correct horse\n").code == 0
    assert not profile.exists()
    assert run("login", "a@b.co", "--password-stdin", env=env, stdin="correct horse\n").code == 0
    assert profile.stat().st_mode & 0o777 == 0o600
    assert profile.parent.stat().st_mode & 0o777 == 0o700
    env = {"FIAPX_CONFIG": str(profile)}  # the profile remembers the server
    assert run("whoami", env=env).out == "a@b.co\n"
    assert run("logout", env=env).code == 0
    saved = json.loads(profile.read_text())
    assert (saved["access_token"], saved["refresh_token"]) == (None, None)
    assert run("whoami", env=env).code == 4


def test_wrong_password(fake: Fake, profile: Path) -> None:
    env = {"FIAPX_CONFIG": str(profile), "FIAPX_SERVER": fake.url}
    ran = run("login", "a@b.co", "--password-stdin", "--json", env=env, stdin="wrong\n")
    assert (ran.code, ran.json["error"]["code"]) == (4, "invalid_credentials")
    assert "wrong\n" not in ran.err + ran.out
    assert not profile.exists()


@pytest.mark.parametrize("stdin", ["correct horse", "correct horse\n", "correct horse\r\n"])
def test_only_the_newline_is_cut_off(fake: Fake, profile: Path, stdin: str) -> None:
    env = {"FIAPX_CONFIG": str(profile), "FIAPX_SERVER": fake.url}
    assert run("login", "a@b.co", "--password-stdin", env=env, stdin=stdin).code == 0
    assert run("login", "a@b.co", "--password-stdin", env=env, stdin=f" {stdin}").code == 4


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_no_password(fake: Fake, profile: Path, stdin: str) -> None:
    env = {"FIAPX_CONFIG": str(profile), "FIAPX_SERVER": fake.url}
    assert run("login", "a@b.co", "--password-stdin", env=env, stdin=stdin).code == 2
    ran = run("login", "a@b.co", env=env, stdin=stdin)
    assert ran.code == 2
    assert "--password-stdin" in ran.err
    assert fake.requests == []


def test_change_password(fake: Fake, env: dict[str, str]) -> None:
    assert run("passwd", "--password-stdin", env=env, stdin="correct horse\nnew one\n").code == 0
    refused = run("passwd", "--password-stdin", env=env, stdin="wrong\nnew one\n")
    assert refused.code == 4
    assert fake.refreshes == 0  # it was not the token that was wrong


def test_logout_forgets_even_without_a_server(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"server": "http://127.0.0.1:1", "email": "a@b.co", "access_token": "x"}))
    assert run("logout", env={"FIAPX_CONFIG": str(profile)}).code == 5
    assert json.loads(profile.read_text())["access_token"] is None


# --- tokens -----------------------------------------------------------------------------------


def test_an_expired_token_is_refreshed_once(fake: Fake, env: dict[str, str], profile: Path) -> None:
    fake.access.clear()
    assert run("whoami", env=env).code == 0
    assert fake.refreshes == 1
    saved = json.loads(profile.read_text())
    assert saved["access_token"] in fake.access
    assert saved["refresh_token"] in fake.refresh
    assert profile.stat().st_mode & 0o777 == 0o600
    assert run("whoami", env=env).code == 0
    assert fake.refreshes == 1


def test_an_ended_session_asks_for_a_log_in(fake: Fake, env: dict[str, str]) -> None:
    fake.access.clear()
    fake.refresh.clear()
    ran = run("whoami", "--json", env=env)
    assert (ran.code, ran.json["error"]["code"]) == (4, "auth_required")
    assert "fiapx login" in ran.err


def test_processes_that_refresh_at_once_all_end_well(fake: Fake, env: dict[str, str]) -> None:
    """The fake ends the session if a refresh token is used twice."""
    fake.access.clear()
    started = [subprocess.Popen([FIAPX, "whoami"], env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=30)[0] for process in started] == ["a@b.co\n"] * 4
    assert fake.refreshes == 1


def test_the_token_variable_wins_and_is_not_refreshed(fake: Fake, env: dict[str, str]) -> None:
    token = fake.pair()["access_token"]
    profile_token = json.loads(Path(env["FIAPX_CONFIG"]).read_text())["access_token"]
    fake.access.discard(profile_token)
    assert run("whoami", env=env | {"FIAPX_TOKEN": token}).code == 0
    ran = run("whoami", env=env | {"FIAPX_TOKEN": "old"})
    assert ran.code == 4
    assert "FIAPX_TOKEN" in ran.err
    assert fake.refreshes == 0


def test_tokens_go_to_the_server_they_came_from_only(fake: Fake, env: dict[str, str]) -> None:
    with fake_server() as other:
        other.access = fake.access
        assert run("whoami", "--server", other.url, env=env).code == 4
        assert other.requests == []
        assert run("whoami", env=env | {"FIAPX_SERVER": other.url}).code == 4
        assert run("whoami", "--server", fake.url, env=env | {"FIAPX_SERVER": other.url}).code == 0


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x/?q"]
)
def test_addresses_that_are_none(url: str, tmp_path: Path) -> None:
    ran = run("jobs", "--server", url, env={"FIAPX_CONFIG": str(tmp_path / "p")})
    assert ran.code == 2
    assert "u:p" not in ran.err


@pytest.mark.parametrize(
    ("url", "fine"),
    [("https://x.org", True), ("http://127.0.0.9:1", True), ("http://[::1]:1", True), ("http://localhost", True),
     ("http://x.org", False), ("http://10.0.0.1", False), ("http://127.0.0.1.x.org", False), ("http://[::2]", False)],
)  # fmt: skip
def test_secrets_never_cross_a_network_in_the_clear(url: str, fine: bool) -> None:
    check_secure(url, {"FIAPX_INSECURE": "1"})
    if fine:
        check_secure(url, {})
        return
    with pytest.raises(UsageError, match="plain HTTP"):
        check_secure(url, {})
    ran = run("login", "a@b.co", "--password-stdin", "--server", url, stdin="secret\n")
    assert ran.code == 2


def test_where_the_server_comes_from() -> None:
    profile, env = Profile(server="http://profile"), {"FIAPX_SERVER": "http://env"}
    assert server_url("http://flag/", env, profile) == "http://flag"
    assert server_url(None, env, profile) == "http://env"
    assert server_url(None, {}, profile) == "http://profile"
    assert server_url(None, {}, Profile()) == "http://127.0.0.1:8000"


# --- the profile ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", "[]", '{"server": 5}', "null"])
def test_a_damaged_profile_is_a_clear_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    ran = run("whoami", env={"FIAPX_CONFIG": str(path)})
    assert ran.code == 2
    assert "damaged" in ran.err


def test_a_profile_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ProfileStore(tmp_path / "p.json")
    store.save(Profile("http://x", "a@b.co", "t1", "r1"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(Exception, match="No space"):
        store.save(Profile("http://x", "a@b.co", "t2", "r2"))
    assert store.load().access_token == "t1"
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
    assert "t1" not in repr(store.load())


# --- a server that is away, busy or strange -----------------------------------------------------


def test_no_server(tmp_path: Path) -> None:
    env = {"FIAPX_CONFIG": str(tmp_path / "p"), "FIAPX_TOKEN": "x", "FIAPX_SERVER": "http://127.0.0.1:1"}
    ran = run("jobs", "--json", env=env)
    assert (ran.code, ran.json["error"]["code"]) == (5, "unavailable")
    assert ran.err == "fiapx: error: cannot reach http://127.0.0.1:1\nfiapx: hint: Is `fiapx up` running?\n"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_reading_is_tried_again(fake: Fake, env: dict[str, str], status: int) -> None:
    fake.failing = [Response("<html>", status), Response("", status)]
    assert run("whoami", env=env).code == 0
    assert len(fake.requests) == 3


def test_retry_after_is_honoured(fake: Fake, env: dict[str, str]) -> None:
    fake.failing = [RateLimited(retry_after=1)]
    began = time.monotonic()
    assert run("whoami", env=env).code == 0
    assert time.monotonic() - began >= 1


def test_a_long_retry_after_is_told_at_once(fake: Fake, env: dict[str, str]) -> None:
    fake.failing = [RateLimited(retry_after=600)]
    ran = run("whoami", env=env)
    assert ran.code == 5
    assert "Try again in 600 s." in ran.err
    assert len(fake.requests) == 1


def test_what_may_have_been_done_is_not_done_again(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", "running")
    fake.failing = [Unavailable()]
    assert run("cancel", "j1", env=env).code == 5
    assert fake.requests == ["POST /jobs/j1/cancel"]


@pytest.mark.parametrize(
    ("answer", "code", "exit_code"),
    [
        (Response("<html>", 500), "internal", 1),
        (Response('{"code":"brand_new","detail":"Later."}', 418), "brand_new", 1),
        (Response('{"code":"brand_new","detail":"Later."}', 413), "payload_too_large", 1),
        (Response('{"code":"unsupported_codec","detail":"No."}', 422), "unsupported_codec", 1),
        (Response("", 301, {"Location": "https://elsewhere.example"}), "internal", 1),
        (Response("hello"), "internal", 1),
    ],
)
def test_strange_answers(fake: Fake, env: dict[str, str], answer: Response, code: str, exit_code: int) -> None:
    fake.failing = [answer]
    ran = run("whoami", "--json", env=env)
    assert (ran.code, ran.json["error"]["code"]) == (exit_code, code)


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "[" * 100_000], ids=["list", "null", "text", "deep"])
def test_answers_of_another_shape_are_the_servers_fault(fake: Fake, env: dict[str, str], body: str) -> None:
    fake.failing = [Response(body)]
    assert run("jobs", "--json", env=env).json["error"]["message"].endswith("is it a fiapx?")


def test_pages_that_hold_nothing_end_the_list(fake: Fake, env: dict[str, str]) -> None:
    fake.failing = [Response('{"items": [], "next_cursor": "again"}')] * 3
    assert run("jobs", "--all", env=env).code == 0
    assert fake.requests == ["GET /jobs"]


def test_retries_write_nothing(fake: Fake, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    fake.failing = [Response("", 503)]
    ran = run("whoami", "--json", env=env)
    assert ran.json["email"] == "a@b.co"
    assert ran.err == ""
    assert capsys.readouterr() == ("", "")


# --- jobs -------------------------------------------------------------------------------------


def test_jobs_are_paged_and_filtered(fake: Fake, env: dict[str, str]) -> None:
    for number in range(230):
        fake.job(f"j{number}", "failed" if number % 10 == 0 else "completed", error={"code": "x", "message": "y"})
    assert len(run("jobs", env=env).out.splitlines()) == 20
    assert len(run("jobs", "--limit", "205", "--json", env=env).json["jobs"]) == 205
    assert len(run("jobs", "--all", "--state", "failed", "--json", env=env).json["jobs"]) == 23
    assert len(run("jobs", "--all", env=env).out.splitlines()) == 230


def test_videos(fake: Fake, env: dict[str, str]) -> None:
    assert run("videos", env=env).out.rstrip().split("\t")[2:] == ["1.2 MB", "a\\x1b[31m.mp4"]
    assert run("videos", "--json", env=env).json["videos"][0]["id"] == "v1"


def test_show(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", options={"fps": "2"}, warnings=[{"code": "source_truncated", "message": "It ends early."}])
    text = run("show", "j1", env=env).out
    assert "completed with warnings, 3 frames" in text
    assert "It ends early. (source_truncated)" in text
    assert run("show", "j1", "--json", env=env).json["id"] == "j1"


def test_show_tells_of_attempts_where_it_took_several(fake: Fake, env: dict[str, str]) -> None:
    lost = {"number": 1, "started_at": "2026-11-24T08:07:56Z", "outcome": "lost", "worker": "a:1", "error": None}
    full = {"code": "no_space", "message": "There is no room."}
    failed = lost | {"number": 2, "outcome": "failed", "worker": None, "error": full}
    fake.job("j1", attempts=[lost, failed])
    fake.job("j2", attempts=[lost])
    told = [line for line in run("show", "j1", env=env).out.splitlines() if line.startswith("attempt")]
    assert [line.split(maxsplit=4)[4] for line in told] == ["lost, by a:1", "failed: There is no room. (no_space)"]
    assert "attempt" not in run("show", "j2", env=env).out


def test_show_names_the_options_that_were_chosen(fake: Fake, env: dict[str, str]) -> None:
    chosen: list[dict[str, Any]] = [
        {},
        {"every": "5s", "width": 320},
        {"at": "10,50%", "sheet": True},
        {"scenes": True, "quality": 80},
    ]
    for number, given in enumerate(chosen):
        fake.job(f"j{number}", options=ExtractOptions(**given).model_dump(mode="json"))
    shown = [run("show", f"j{number}", env=env).out for number in range(len(chosen))]
    lines = [next(line for line in text.splitlines() if line.startswith("options:")) for text in shown]
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "default",
        "every 5, width 320",
        "at 10,50%, sheet",
        "scenes 10.0, quality 80",
    ]


@pytest.mark.parametrize("id_", ["missing", "..", "../videos", "a/b", "", "%2e%2e", "x?y"])
def test_ids_that_are_none(fake: Fake, env: dict[str, str], id_: str) -> None:
    ran = run("show", id_, "--json", env=env)
    assert (ran.code, ran.json["error"]["code"]) == (1, "not_found")
    assert all(request.startswith("GET /jobs") for request in fake.requests)


@pytest.mark.parametrize("streams", [True, False])
def test_watch(fake: Fake, env: dict[str, str], streams: bool) -> None:
    fake.streams = streams
    fake.job("j1", "queued", "running", "running", "completed")
    lines = run("watch", "j1", env=env).out.splitlines()
    assert lines[0] == "queued"
    assert lines[-1].startswith("completed, 3 frames")
    assert any("/events" in request for request in fake.requests)


def test_watch_json_is_a_line_an_event(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", "queued", "running", "failed", error={"code": "corrupt_media", "message": "It is damaged."})
    ran = run("watch", "j1", "--json", env=env)
    assert ran.code == 1
    assert [json.loads(line)["state"] for line in ran.out.splitlines()] == ["queued", "running", "failed"]
    assert ran.err == "fiapx: error: the job failed: It is damaged. (corrupt_media)\n"


def test_watch_outlives_a_restart(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", "running", "running", "completed")
    down: list[Response | Exception] = [Response("", 503) for _ in range(6)]
    fake.failing = down  # type: ignore[assignment]
    with stamina.set_testing(True, attempts=2):
        assert run("watch", "j1", env=env).code == 0


def test_cancel(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", "running")
    fake.job("j2")
    ran = run("cancel", "j1", "j2", "missing", "--json", env=env)
    assert ran.code == 6
    first, second, third = ran.json["results"]
    assert first["job"]["state"] == "cancelled"
    assert (second["error"]["code"], third["error"]["code"]) == ("job_finished", "not_found")


def test_retry(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1", "failed")
    assert run("retry", "j1", env=env).out == "job again\n"
    assert run("retry", "j1", "--wait", "--json", env=env).json["state"] == "completed"


def test_delete_finds_out_what_it_is(fake: Fake, env: dict[str, str]) -> None:
    fake.job("j1")
    assert run("delete", "j1", "v1", env=env).out == "j1: job deleted\nv1: video deleted\n"
    assert run("delete", "j1", env=env).code == 1


def test_doctor_asks_the_server(fake: Fake, env: dict[str, str]) -> None:
    (check,) = [check for check in run("doctor", "--json", env=env).json["checks"] if check["name"] == "server"]
    assert check["status"] == "ok"
    assert "a@b.co" in check["detail"]


def test_proxies_are_not_asked_for_this_machine(
    fake: Fake, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert run("whoami", env=env).code == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://example.invalid")
