from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from fiapx.cli.doctor import has_known_fixes
from fiapx.cli.outputs import PartFile
from fiapx.core.errors import NoSpace, OutputExists
from fiapx.media.ffmpeg import find_ffmpeg
from tests.unit.cli_support import Ran, run

FIAPX = str(Path(sys.executable).with_name("fiapx"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of video, 64 by 48."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    _make(path, "testsrc=d=3:s=64x48:r=10")
    return path


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that takes seconds to extract at its full rate as PNG."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    _make(path, "testsrc2=d=120:s=640x480:r=25")
    return path


def _make(path: Path, source: str) -> None:
    command = [str(find_ffmpeg().path), "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4", str(path)]
    subprocess.run(command, check=True)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return [name for name in archive.namelist() if name.endswith((".jpg", ".png"))]


def one_error(ran: Ran) -> dict[str, str]:
    (result,) = ran.json["results"]
    error: dict[str, str] = result["error"]
    return error


def test_default_output_is_the_stem_here(clip: Path, tmp_path: Path) -> None:
    ran = run("extract", str(clip))
    assert ran.code == 0
    assert ran.out.startswith("clip.zip: 3 frames, ")
    assert len(names(tmp_path / "clip.zip")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["clip.zip"]


def test_json_tells_all(clip: Path, tmp_path: Path) -> None:
    ran = run("extract", str(clip), "--fps", "2", "--format", "png", "-o", "x.zip", "--json")
    assert ran.code == 0
    (result,) = ran.json["results"]
    content = (tmp_path / "x.zip").read_bytes()
    assert result["input"] == str(clip)
    assert (result["output"], result["frames"], result["bytes"]) == ("x.zip", 6, len(content))
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["engine"] in {"fast", "ffmpeg"}
    assert result["warnings"] == []
    assert result["seconds"] > 0


def test_standard_output(clip: Path) -> None:
    ran = run("extract", str(clip), "-o", "-")
    assert ran.code == 0
    with zipfile.ZipFile(BytesIO(ran.raw)) as archive:
        assert archive.testzip() is None


def test_never_a_zip_on_a_terminal_or_into_a_document(clip: Path) -> None:
    assert run("extract", str(clip), "-o", "-", tty=True).code == 2
    assert run("extract", str(clip), "-o", "-", "--json").json["error"]["code"] == "usage"
    assert run("extract", str(clip), "x.mp4", "-o", "-").code == 2


def test_existing_output_is_kept(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "clip.zip"
    target.write_text("mine")
    ran = run("extract", str(clip), "--json")
    assert (ran.code, one_error(ran)["code"]) == (2, "output_exists")
    assert target.read_text() == "mine"
    assert run("extract", str(clip), "--overwrite").code == 0
    assert len(names(target)) == 3


def test_the_video_itself_is_no_output(clip: Path) -> None:
    before = clip.read_bytes()
    assert run("extract", str(clip), "-o", str(clip), "--overwrite").code == 2
    assert clip.read_bytes() == before


def test_several_go_into_a_folder_and_some_may_fail(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("this is text, not a video")
    ran = run("extract", "bad.mp4", str(clip), "missing.mp4", "-o", "out", "--json")
    assert ran.code == 6
    bad, good, missing = ran.json["results"]
    assert bad["error"]["code"] == "unsupported_format"
    assert missing["error"]["code"] == "input_not_found"
    assert good["output"] == "out/clip.zip"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.zip"]
    assert run("extract", "bad.mp4", "missing.mp4").code == 1


def test_same_stem_twice_is_refused_before_any_work(clip: Path, tmp_path: Path) -> None:
    ran = run("extract", str(clip), "other/clip.avi", "-o", "out/")
    assert ran.code == 2
    assert str(clip) in ran.err
    assert "other/clip.avi" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link to itself", "nul"])
def test_inputs_that_cannot_be_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "link to itself":  # what may not be read takes the same way, but root may read everything
        path.symlink_to(path)
    ran = run("extract", "in\0.mp4" if kind == "nul" else str(path), "--json")
    assert (ran.code, one_error(ran)["code"]) == (2, "input_not_found")


@pytest.mark.parametrize(
    "flags",
    [("--fps", "0"), ("--fps", "1", "--every", "2s"), ("--format", "gif"), ("--quality", "101"), ("--start", "x")],
)
def test_options_that_make_no_sense(flags: tuple[str, ...], clip: Path) -> None:
    ran = run("extract", str(clip), *flags, "--json")
    assert (ran.code, ran.json["error"]["code"]) == (2, "invalid_options")


def test_a_wrong_setting_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAPX_MAX_FRAMES", "many")
    ran = run("extract", str(clip))
    assert ran.code == 2
    assert "FIAPX_MAX_FRAMES" in ran.err


def test_failed_video_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    ran = run("extract", "empty.mp4")
    assert ran.code == 1
    assert ran.err.startswith("fiapx: error: empty.mp4: ")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.mp4"]


def test_names_cannot_play_tricks(clip: Path, tmp_path: Path) -> None:
    evil = tmp_path / "a\x1b[31m\u202eb\n.mp4"
    evil.write_bytes(clip.read_bytes())
    ran = run("extract", str(evil))
    assert ran.code == 0
    assert ran.out.startswith("a\\x1b[31m\\u202eb\\n.zip: 3 frames")
    assert run("extract", "\x1b[2Jmissing.mp4").err.startswith("fiapx: error: \\x1b[2Jmissing.mp4: ")


def test_dash_and_undecodable_names(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "-i.mp4").write_bytes(clip.read_bytes())
    assert run("extract", "--", "-i.mp4").code == 0
    raw = os.fsdecode(b"\xff.mp4")
    (tmp_path / raw).write_bytes(clip.read_bytes())
    ran = run("extract", raw, "--json")
    assert ran.code == 0
    assert ran.json["results"][0]["input"] == raw


def test_special_files_are_written_directly(clip: Path) -> None:
    assert run("extract", str(clip), "-o", "/dev/null").code == 0
    ran = run("extract", str(clip), "-o", "/dev/full", "--json")
    assert (ran.code, one_error(ran)["code"]) == (5, "no_space")
    assert Path("/dev/null").is_char_device()


def test_places_that_cannot_be_written(clip: Path) -> None:
    ran = run("extract", str(clip), "-o", "missing/out.zip")
    assert ran.code == 2
    assert "cannot write" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals, long_clip: Path, tmp_path: Path) -> None:
    command = [FIAPX, "extract", str(long_clip), "--fps", "25", "--format", "png", "-o", "x.zip", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "x.zip.part"
    while not (part.exists() and part.stat().st_size > 10_000):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert '"code": "cancelled"' in out
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_locked_and_renamed(tmp_path: Path) -> None:
    target = tmp_path / "x.zip"
    with PartFile(target) as part:
        part.write(b"half")
        with pytest.raises(OutputExists), PartFile(target):
            pass
        part.write(memoryview(b" done"))
        assert not target.exists()
        part.commit()
    assert target.read_bytes() == b"half done"
    assert not part.path.exists()


def test_a_part_replaces_what_a_link_points_at(tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to("real.zip")
    with PartFile(tmp_path / "link.zip") as part:
        part.write(b"x")
        part.commit()
    assert (tmp_path / "link.zip").is_symlink()
    assert (tmp_path / "real.zip").read_bytes() == b"x"


def test_a_full_disk_is_no_space() -> None:
    with pytest.raises(NoSpace), PartFile(Path("/dev/full")) as part:
        part.write(b"x" * 10)


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"FIAPX_CONFIG": str(tmp_path / "none.json")}
    monkeypatch.setenv("FIAPX_HOME", str(tmp_path / "data"))
    ran = run("doctor", "--json", env=env)
    assert ran.code == 0
    assert {"fiapx", "PyAV", "FFmpeg", "sandbox", "cores", "data folder"} == {
        check["name"] for check in ran.json["checks"]
    }
    assert "data folder: " in run("doctor", env=env).out
    assert not (tmp_path / "data").exists()


def test_doctor_says_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIAPX_HOME", str(tmp_path / "file" / "data"))
    monkeypatch.setenv("FIAPX_FFMPEG", str(tmp_path / "nothing"))
    env = {"FIAPX_CONFIG": str(tmp_path / "none.json"), "FIAPX_SERVER": "http://127.0.0.1:1"}
    ran = run("doctor", "--json", env=env)
    assert ran.code == 1
    broken = {check["name"] for check in ran.json["checks"] if check["status"] == "error"}
    assert broken == {"FFmpeg", "data folder", "server"}


@pytest.mark.parametrize(
    ("version", "fixed"),
    [("5.1.9-0+deb12u1", False), ("5.1.10", True), ("n7.1.5", True), ("7.0.2-static", False), ("8.1", False),
     ("9.0", True), ("N-12345-gabc", None)],
)  # fmt: skip
def test_known_fixes_of_ffmpeg(version: str, fixed: bool | None) -> None:
    assert has_known_fixes(version) is fixed
