from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import fiapx
from fiapx.cli import main
from fiapx.cli.terminal import Terminal
from fiapx.cli.text import duration, plural, safe_stem
from fiapx.core.text import size
from tests.unit.cli_support import Screen, run

FIAPX = [str(Path(sys.executable).with_name("fiapx"))]
COMMANDS = [
    "extract",
    "doctor",
    "register",
    "login",
    "logout",
    "whoami",
    "passwd",
    "upload",
    "jobs",
    "show",
    "watch",
    "download",
    "cancel",
    "retry",
    "delete",
    "videos",
]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version").code == 0
    assert capsys.readouterr().out == f"fiapx {fiapx.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help").code == 0
    text = capsys.readouterr().out
    assert "Example: " in text
    assert "--json" in text
    assert "<bool>" not in text


def test_help_groups_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help").code == 0
    text = capsys.readouterr().out
    assert all(panel in text for panel in ("Local", "Account", "Jobs", "Exit codes"))
    assert all(f" {command} " in text for command in COMMANDS)


def test_no_arguments_shows_help_and_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run().code == 2
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("args", [("nonsense",), ("extract",), ("extract", "--nonsense"), ("jobs", "--limit", "none")])
def test_usage_errors_are_one_line_and_a_hint(args: tuple[str, ...]) -> None:
    ran = run(*args)
    assert ran.code == 2
    assert ran.raw == b""
    first, second = ran.err.splitlines()
    assert first.startswith("fiapx: error: ")
    assert second.startswith("fiapx: hint: See `fiapx")


def test_usage_error_with_json_is_a_document_too() -> None:
    ran = run("extract", "--json")
    assert ran.code == 2
    assert ran.json["error"]["code"] == "usage"


def test_unexpected_errors_show_no_traceback_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("fiapx.cli.profile.ProfileStore.load", broken)
    ran = run("whoami")
    assert ran.code == 1
    assert ran.err.splitlines()[0] == "fiapx: error: internal error (RuntimeError)"
    assert "secret" not in ran.err
    assert "a secret detail" in run("whoami", env={"FIAPX_DEBUG": "1"}).err


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fiapx.cli.profile.ProfileStore.load", interrupt)
    assert run("whoami").code == 130
    ran = run("whoami", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (130, "cancelled")


def test_starts_quickly() -> None:
    heavy = ["httpx", "rich", "pydantic", "av", "numpy", "fiapx.settings", "sqlalchemy", "fastapi"]
    script = f"import sys, fiapx.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_that_leaves_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*FIAPX, "doctor", "--json"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_standard_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*FIAPX, "doctor"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr == "fiapx: error: cannot write 'standard output': No space left on device\n"


def test_closed_standard_streams_do_no_harm() -> None:
    script = f"{FIAPX[0]} jobs --server nonsense >&- 2>&- <&-"
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 2


@pytest.mark.parametrize(("extra", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_bar_and_color_only_on_a_terminal(extra: dict[str, str], colored: bool) -> None:
    screen = Screen(tty=True)
    terminal = Terminal(Screen(), Screen(), screen, {"TERM": "xterm"} | extra)
    with terminal.progress("clip.mp4") as advance:
        advance(1, 2)
    text = screen.bytes().decode()
    assert ("\x1b[3" in text or "\x1b[38" in text) is colored
    assert bool(text) is (extra.get("TERM") != "dumb")


def test_no_bar_off_a_terminal() -> None:
    screen = Screen()
    with Terminal(Screen(), Screen(), screen, {}).progress("x") as advance:
        advance(1, 2)
    assert screen.bytes() == b""


def test_tables_are_aligned_on_a_terminal_and_tabs_elsewhere() -> None:
    rows = [("1", "long name"), ("22", "a\x1b[31m\u202e")]
    screen, pipe = Screen(tty=True), Screen()
    Terminal(Screen(), screen, Screen(), {}).table(("ID", "NAME"), rows)
    Terminal(Screen(), pipe, Screen(), {}).table(("ID", "NAME"), rows)
    assert screen.bytes().decode() == "ID  NAME\n1   long name\n22  a\\x1b[31m\\u202e\n"
    assert pipe.bytes().decode() == "1\tlong name\n22\ta\\x1b[31m\\u202e\n"


def test_shell_completion_is_on() -> None:
    env = {**os.environ, "_FIAPX_COMPLETE": "complete_bash", "COMP_WORDS": "fiapx down", "COMP_CWORD": "1"}
    done = subprocess.run(FIAPX, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "download"


@pytest.mark.timeout(20)
def test_prompts_hide_what_is_typed() -> None:
    """On a real terminal: asked twice, nothing echoed, and a difference is a usage error."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [*FIAPX, "register", "a@b.co"], stdin=child, stdout=child, stderr=child, start_new_session=True
    ) as process:
        os.close(child)
        seen = b""
        for asked, answer in enumerate((b"first secret\n", b"second secret\n"), 1):
            while seen.count(b": ") < asked:
                seen += os.read(parent, 1024)
            os.write(parent, answer)
        while True:
            try:
                seen += os.read(parent, 1024)
            except OSError:
                break
        assert process.wait(10) == 2
    os.close(parent)
    assert b"passwords differ" in seen
    assert b"secret" not in seen


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("clip.mp4", "clip"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.avi", "y"),
        ("..", ""),
        (".hidden.mp4", "hidden"),
        ("a\x00\x1b\u202eb.mp4", "ab"),
        ("x" * 300 + ".mp4", "x" * 200),
        ("-", "-"),
        ("férias 1.mov", "férias 1"),
    ],
)
def test_names_from_a_server_name_a_file_in_one_folder(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


def test_words() -> None:
    assert [size(n) for n in (0, 999, 1000, 999_950, 1_300_000, 2 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "1.0 MB", "1.3 MB", "2.0 TB"
    ]  # fmt: skip
    assert [plural(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert [duration(s) for s in (4.4, 89, 90, 3900)] == ["4 s", "89 s", "2 min", "1 h 5 min"]


def test_main_is_the_console_entry() -> None:
    assert callable(main.app)
    assert subprocess.run([*FIAPX, "extract", "--nonsense"], capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("fiapx.media.extract", {"numpy", "av"}), ("fiapx.bootstrap.roles", {"numpy", "av", "zxcvbn"})],
)
def test_what_decodes_or_judges_is_loaded_by_those_who_do(module: str, heavy: set[str]) -> None:
    script = f"import sys, {module}; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "set()\n"
    )
