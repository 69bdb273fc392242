"""Many inputs: folders, standard input, and what exists already."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from fiapx.cli.inputs import expand
from fiapx.media.ffmpeg import find_ffmpeg
from tests.unit.cli_support import run

FIAPX = str(Path(sys.executable).with_name("fiapx"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of video."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    source = ("-f", "lavfi", "-i", "testsrc=d=2:s=64x48:r=10", "-c:v", "mpeg4")
    subprocess.run([str(find_ffmpeg().path), "-v", "error", *source, str(path)], check=True)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(*paths: str, data: bytes = b"x") -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_stands_for_the_videos_in_it() -> None:
    files("v/b.mp4", "v/A.MKV", "v/deep/er/c.webm", "v/notes.txt", "v/.hidden.mp4", "v/.git/x.mp4", "v/d.mp4.part")
    inputs = expand(["v/", "x.mp4", "v/b.mp4"])
    assert inputs.stems == {"v/A.MKV": "A", "v/b.mp4": "b", "v/deep/er/c.webm": "deep/er/c", "x.mp4": "x"}
    assert inputs.several
    assert expand(["."]).stems["v/b.mp4"] == "v/b"


def test_videos_of_a_folder_that_differ_by_extension_keep_it() -> None:
    files("v/a.mp4", "v/a.webm", "v/b.mp4", "v/sub/a.mp4")
    expected = {"v/a.mp4": "a.mp4", "v/a.webm": "a.webm", "v/b.mp4": "b", "v/sub/a.mp4": "sub/a"}
    assert expand(["v"]).stems == expected


def test_links_are_followed_once() -> None:
    files("v/z/a.mp4", "other/b.mp4")
    Path("v/z/loop").symlink_to("..")
    Path("v/again").symlink_to("z")
    Path("v/other").symlink_to(Path("other").absolute())
    Path("v/self.mp4").symlink_to("self.mp4")
    assert [*expand(["v"]).stems] == ["v/other/b.mp4", "v/self.mp4", "v/z/a.mp4"]


def test_a_folder_is_several_even_with_one_video() -> None:
    files("v/a.mp4")
    Path("file").touch()
    assert run("extract", "v", "-o", "file").code == 2
    assert run("extract", "v", "-o", "-").code == 2


def test_a_folder_with_no_video_is_an_error(video: bytes) -> None:
    Path("empty").mkdir()
    files("full/a.mp4", data=video)
    ran = run("extract", "empty", "--json")
    assert ran.code == 2
    (result,) = ran.json["results"]
    assert result["input"] == "empty"
    assert result["error"]["code"] == "input_not_found"
    assert "no video in it" in result["error"]["message"]
    assert run("extract", "empty", "full").code == 6


def test_outputs_mirror_the_folder(here: Path, video: bytes) -> None:
    files("v/a.mp4", "v/sub/b.mp4", data=video)
    files("v/sub/bad.mp4", data=b"this is text")
    ran = run("extract", "v", "-o", "out")
    assert ran.code == 6
    assert made(here / "out") == ["a.zip", "sub/b.zip"]
    assert ran.out.startswith("out/a.zip: 2 frames, ")
    assert "v/sub/bad.mp4: " in ran.err


def test_skip_existing(here: Path, video: bytes) -> None:
    files("v/a.mp4", "v/b.mp4", data=video)
    files("out/a.zip", data=b"mine")
    ran = run("extract", "v", "-o", "out", "--skip-existing", "--json")
    assert ran.code == 0
    first, second = ran.json["results"]
    assert first == {"input": "v/a.mp4", "output": "out/a.zip", "skipped": True}
    assert second["frames"] == 2
    assert (here / "out/a.zip").read_bytes() == b"mine"
    assert run("extract", "v", "-o", "out", "--skip-existing").out.splitlines() == [
        "out/a.zip: skipped, since it exists",
        "out/b.zip: skipped, since it exists",
    ]
    assert run("extract", "v", "-o", "out").code == 1
    assert run("extract", "v", "-o", "out", "--skip-existing", "--overwrite").code == 2


def test_standard_input(here: Path, video: bytes) -> None:
    done = subprocess.run([FIAPX, "extract", "-", "--json"], input=video, capture_output=True, check=True)
    assert b'"output": "stdin.zip"' in done.stdout
    assert made(here) == ["stdin.zip"]
    with zipfile.ZipFile("stdin.zip") as archive:
        assert b'"name": "stdin"' in archive.read("manifest.json").replace(b'":"', b'": "')
    piped = subprocess.run([FIAPX, "extract", "-", "-o", "-"], input=video, capture_output=True, check=True)
    assert piped.stdout == Path("stdin.zip").read_bytes()


def test_no_video_is_read_from_a_terminal() -> None:
    master, slave = pty.openpty()
    try:
        done = subprocess.run([FIAPX, "extract", "-"], stdin=slave, capture_output=True, timeout=20, check=False)
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 2
    assert b"terminal" in done.stderr


@pytest.mark.parametrize("input_", [b"", b"this is text"], ids=["nothing", "text"])
def test_standard_input_that_is_no_video(input_: bytes, here: Path) -> None:
    done = subprocess.run([FIAPX, "extract", "-"], input=input_, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"fiapx: error: -: ")
    assert made(here) == []


def test_an_interrupt_ends_waiting_for_standard_input(here: Path) -> None:
    process = subprocess.Popen([FIAPX, "extract", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(b"\0" * 65536 * 4)
    process.stdin.flush()  # more than a pipe holds: it is being read
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 130
    process.stdin.close()
    assert made(here) == []
