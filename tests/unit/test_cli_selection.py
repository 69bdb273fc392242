"""The extraction options as flags of `extract`, `upload` and `submit`."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fiapx.cli.main import commands
from fiapx.cli.selection import FLAGS
from fiapx.core.options import ExtractOptions
from fiapx.media.ffmpeg import find_ffmpeg
from tests.unit.cli_support import run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of video, 64 by 48."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    command = [
        str(find_ffmpeg().path),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=d=2:s=64x48:r=10",
        "-c:v",
        "mpeg4",
        "-g",
        "5",
    ]
    subprocess.run([*command, str(path)], check=True)
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def options(*arguments: str) -> dict[str, Any]:
    """The options in the manifest of what these arguments make; one of them names the clip."""
    ran = run("extract", *arguments, "-o", "out.zip", "--overwrite")
    assert ran.code == 0, ran.err
    with zipfile.ZipFile("out.zip") as archive:
        return dict(json.loads(archive.read("manifest.json"))["options"])


def test_every_option_has_a_flag_and_every_flag_an_option() -> None:
    assert list(FLAGS) == list(ExtractOptions.model_fields)


@pytest.mark.parametrize("command", ["extract", "upload", "submit"])
def test_each_command_that_extracts_has_all_of_them(command: str) -> None:
    group = typer.main.get_command(commands)
    parameters = {parameter.name: parameter for parameter in group.commands[command].params}  # type: ignore[attr-defined]
    for name in ExtractOptions.model_fields:
        assert f"--{name.replace('_', '-')}" in parameters[name].opts


@pytest.mark.parametrize(
    ("given", "scenes"),
    [
        (("--scenes", "CLIP"), 10.0),
        (("CLIP", "--scenes"), 10.0),
        (("--scenes", "12", "CLIP"), 12.0),
        (("--scenes", "12.5", "CLIP"), 12.5),
        (("--scenes=12", "CLIP"), 12.0),
        (("--scenes", "--sheet", "CLIP"), 10.0),
        (("--scenes", "--", "CLIP"), 10.0),
    ],
    ids=str,
)
def test_a_threshold_need_not_be_named(given: tuple[str, ...], scenes: float, clip: Path) -> None:
    ran = run("extract", "-o", "x.zip", *(str(clip) if word == "CLIP" else word for word in given))
    assert ran.code == 0, ran.err
    with zipfile.ZipFile("x.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["options"]["scenes"] == scenes


def test_both_thresholds_at_once(clip: Path) -> None:
    found = options("--drop-similar", "--scenes", "3", str(clip))
    assert (found["drop_similar"], found["scenes"]) == (1.0, 3.0)
    assert options("--drop-similar", "0.5", str(clip))["drop_similar"] == 0.5


def test_after_two_dashes_there_are_names_alone(clip: Path) -> None:
    ran = run("extract", "--", "--scenes")
    assert "--scenes: " in ran.err
    assert "true" not in ran.err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--step", "3"), {"step": 3}),
        (("--count", "4"), {"count": 4}),
        (("--at", "0.5,1s,50%"), {"at": ["1/2", "1", "50%"]}),
        (("--keyframes",), {"keyframes": True}),
        (("--every", "500ms", "--max-frames", "2"), {"every": "1/2", "max_frames": 2}),
        (("--fps", "30000/1001"), {"fps": "30000/1001"}),
        (("--start", "0.5", "--end", "1.5"), {"start": "1/2", "end": "3/2"}),
        (("--drop-black", "--drop-blurred"), {"drop_black": True, "drop_blurred": True}),
        (("--width", "32", "--height", "32", "--upscale"), {"width": 32, "height": 32, "upscale": True}),
        (("--format", "webp", "--quality", "50"), {"format": "webp", "quality": 50}),
        (("--format", "png", "--hdr", "keep"), {"format": "png", "hdr": "keep"}),
        (("--deinterlace", "auto", "--sheet"), {"deinterlace": "auto", "sheet": True}),
    ],
    ids=str,
)
def test_flags_become_options(given: tuple[str, ...], expected: dict[str, Any], clip: Path) -> None:
    assert options(*given, str(clip)).items() >= expected.items()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--scenes=much",), "scenes: "),
        (("--scenes", "0"), "scenes: "),
        (("--step", "0"), "step: "),
        (("--quality", "0"), "quality: "),
        (("--step", "2", "--keyframes"), "step and keyframes are different ways to choose: give one"),
        (("--at", "120%"), "at: '120%' lies past the end"),
        (("--count", "99999999999999999999999"), "frames would be extracted"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_line(given: tuple[str, ...], message: str, clip: Path) -> None:
    ran = run("extract", str(clip), *given)
    assert ran.code in (1, 2)
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert not Path("clip.zip").exists()


def test_help_shows_the_flags_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", "--help").code == 0
    text = capsys.readouterr().out
    for word in ("Which frames", "Cleaning", "Pictures", "--drop-similar", "--scenes", "[THRESHOLD]"):
        assert word in text
