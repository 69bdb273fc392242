"""`fiapx probe` and `fiapx extract --estimate` at the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from fiapx.media.ffmpeg import find_ffmpeg
from tests.unit.cli_support import run

SOURCE = "testsrc=d=4:s=320x240:r=10"


def make(path: str, *arguments: str) -> None:
    command = [str(find_ffmpeg().path), "-v", "error", "-f", "lavfi", "-i", SOURCE, "-c:v", "mpeg4", *arguments, path]
    subprocess.run(command, check=True)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_probe_shows_aligned_lines() -> None:
    make("clip.mkv")
    ran = run("probe", "clip.mkv")
    assert ran.code == 0
    facts = dict(line.split(":", 1) for line in ran.out.splitlines())
    assert list(facts) == ["file", "container", "video", "picture", "frames", "keyframes"]
    assert {len(value) - len(value.lstrip()) + len(name) for name, value in facts.items()} == {11}
    assert facts["video"].strip() == "mpeg4 (Simple Profile), 320x240"
    assert facts["frames"].strip() == "40, 4 s, 10 fps, constant"


def test_probe_of_several_in_json() -> None:
    make("a.mp4")
    Path("b.mp4").write_text("this is text")
    ran = run("probe", ".", "--json")
    assert ran.code == 6
    good, bad = ran.json["results"]
    assert (good["input"], good["timing"]["frames"], good["timing"]["rate"]) == ("a.mp4", 40, "10")
    assert bad == {"input": "b.mp4", "error": bad["error"]}
    assert bad["error"]["code"] == "unsupported_format"
    assert run("probe", "b.mp4").code == 1


def test_streams_are_shown_where_no_frame_can_be_had() -> None:
    make("sound.mp4", "-f", "lavfi", "-i", "sine=d=1", "-map", "1")
    ran = run("probe", "sound.mp4", "--json")
    (result,) = ran.json["results"]
    assert ran.code == 1
    assert [stream["kind"] for stream in result["streams"]] == ["audio"]
    assert result["error"]["code"] == "no_video_stream"
    assert "audio:" in run("probe", "sound.mp4").out


def test_what_a_file_says_of_itself_cannot_play_tricks() -> None:
    make("clip.mkv", "-metadata:s:v", "language=\x1b[2J")
    Path("clip.mkv").rename("\x1b[31m.mkv")
    ran = run("probe", "\x1b[31m.mkv")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert ran.out.count("\\x1b[") == 2


def test_estimate_writes_nothing(here: Path) -> None:
    make("clip.mp4")
    ran = run("extract", "clip.mp4", "--fps", "5", "--estimate", "-o", "out/", "--json")
    assert ran.code == 0
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]
    (result,) = ran.json["results"]
    assert (result["input"], result["output"], result["frames"], result["at_most"]) == (
        *("clip.mp4", "out/clip.zip", 20, False),
    )
    (done,) = json.loads(run("extract", "clip.mp4", "--fps", "5", "--json").out)["results"]
    assert result["bytes"] == pytest.approx(done["bytes"], rel=0.25)
    assert result["seconds"] > 0
    assert result["free"] > 0


@pytest.mark.parametrize("what", ["frames", "sheets"])
def test_estimate_refuses_what_is_too_large_for_a_zip(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make("clip.mp4")
    sheet = ["--sheet"] if what == "sheets" else []
    asked = ["extract", "clip.mp4", "--fps", "10", "--width", "160", *sheet, "--overwrite", "--json"]
    (done,) = run(*asked).json["results"]
    monkeypatch.setenv("FIAPX_MAX_OUTPUT_BYTES", str(int(done["bytes"] * 1.1)))
    assert run(*asked).code == run(*asked, "--estimate").code == 0
    monkeypatch.setenv("FIAPX_MAX_OUTPUT_BYTES", str(int(done["bytes"] * 0.9)))
    for ran in (run(*asked), run(*asked, "--estimate")):
        assert (ran.code, ran.json["results"][0]["error"]["code"]) == (1, "output_too_large")
    assert run(*asked, "--estimate", "--drop-similar").code == 0  # nobody knows that it is too large


def test_estimate_looks_at_outputs_as_the_extraction_does(here: Path) -> None:
    make("v1.mp4")
    make("v2.mp4")
    (here / "v1.zip").write_bytes(b"mine")
    both = ("extract", "v1.mp4", "v2.mp4", "--estimate", "--json")
    first, second = run(*both, "--skip-existing").json["results"]
    assert first == {"input": "v1.mp4", "output": "v1.zip", "skipped": True}
    assert second["frames"] == 4
    assert run("extract", "v1.mp4", "--estimate", "--skip-existing").out == "v1.zip: skipped, since it exists\n"
    refused = run(*both)
    assert (refused.code, refused.json["results"][0]["error"]["code"]) == (6, "output_exists")
    assert run("extract", "v1.mp4", "--estimate").code == run("extract", "v1.mp4").code == 2
    assert [result["frames"] for result in run(*both, "--overwrite").json["results"]] == [4, 4]
    itself = ("extract", "v1.mp4", "-o", "v1.mp4", "--overwrite")
    assert run(*itself, "--estimate").code == run(*itself).code == 2
    assert (here / "v1.zip").read_bytes() == b"mine"


def test_estimate_for_people() -> None:
    make("clip.mp4")
    assert run("extract", "clip.mp4", "--estimate").out.startswith("clip.zip: 4 frames, about ")
    assert run("extract", "clip.mp4", "--estimate", "-o", "-").out.startswith("clip.mp4: 4 frames, about ")
    assert run("extract", "clip.mp4", "--estimate", "--drop-black").out.startswith(
        "clip.zip: at most 4 frames, at most "
    )
    assert run("extract", "clip.mp4", "--estimate", "--start", "9").code == 1


def test_estimate_refuses_what_the_disk_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    make("v1.mp4")
    make("v2.mp4")
    (one,) = json.loads(run("extract", "v1.mp4", "--estimate", "--json").out)["results"]
    room = SimpleNamespace(free=int(one["bytes"] * 1.5))
    monkeypatch.setattr("shutil.disk_usage", lambda _: room)
    ran = run("extract", "v1.mp4", "v2.mp4", "--estimate", "--json")
    first, second = ran.json["results"]
    assert ran.code == 6
    assert "error" not in first
    assert second["error"]["code"] == "no_space"  # each fits, the two do not
    assert second["free"] < one["bytes"]
    Path("v1.zip").write_bytes(bytes(one["bytes"]))
    assert (
        run("extract", "v1.mp4", "v2.mp4", "--estimate", "--overwrite").code == 0
    )  # the second has the room of the old
    assert run("extract", "v1.mp4", "v2.mp4", "--estimate", "--skip-existing").code == 0
    Path("v1.zip").unlink()
    room.free = 10
    assert run("extract", "v1.mp4", "--estimate").code == 5
    assert run("extract", "v1.mp4", "--estimate", "--drop-similar").code == 0  # nobody knows that it does not fit
