"""An estimate against the extraction that it estimates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fiapx.core.errors import NoFrames, OutputTooLarge, TooManyFrames
from fiapx.core.options import extract_options
from fiapx.media.estimate import Estimate, estimate
from fiapx.media.model import Limits, Source
from tests.media.clips import BY_NAME, X264, ffmpeg
from tests.media.extracting import run


def estimated(path: Path, *, limits: Limits | None = None, jobs: int | None = None, **options: Any) -> Estimate:
    with path.open("rb", buffering=0) as file:
        return estimate(Source(path.name, file), extract_options(**options), limits=limits or Limits(), jobs=jobs)


@pytest.fixture(scope="module")
def changing(clips: Path) -> Path:
    """A minute whose pictures get harder to compress, with a keyframe a second."""
    path = clips / "changing.mp4"
    if not path.exists():
        noise = "testsrc2=s=320x240:r=10:d=60,noise=alls='20':allf=t,gblur=sigma=4:enable='lt(t,30)'"
        own = path.with_name(f"{os.getpid()}-{path.name}")  # the folder is shared, and others may look for it now
        ffmpeg("-f", "lavfi", "-i", noise, *X264, "-g", "10", "-sc_threshold", "0", str(own))
        own.rename(path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {}, {"format": "png", "fps": 2}, {"every": "5s", "width": 160}, {"count": 7}, {"keyframes": True},
        {"count": 1, "width": 64}, {"width": 160, "sheet": True}, {"fps": 5, "sheet": True},
        {"engine": "ffmpeg", "count": 3, "width": 160, "sheet": True},
    ],
    ids=str,
)  # fmt: skip
def test_frames_are_exact_and_bytes_near(options: dict[str, Any], changing: Path) -> None:
    found, done = estimated(changing, **options), run(changing, **options).result
    assert (found.frames, found.at_most) == (done.frames, False)
    assert found.size == pytest.approx(done.size, rel=0.09)  # what docs/probe.md tells
    assert 0 < found.seconds < 60
    assert found.sampled > 0


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("name", ["h264-bframes.mp4", "h264-open-gop.mkv", "h264-vfr.mp4", "prores.mov", "mpeg1.m1v"])
def test_any_kind_of_video(name: str, jobs: int, clips: Path) -> None:
    path = BY_NAME[name].make(clips)
    found, done = estimated(path, fps=5, jobs=jobs), run(path, fps=5).result
    assert found.frames == done.frames
    assert found.size == pytest.approx(done.size, rel=0.09)


def test_the_reference_engine_is_sampled_from_the_beginning(changing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiapx.media.estimate._BUDGET", 0.0)
    found = estimated(changing, engine="ffmpeg", fps=5)
    assert (found.frames, found.at_most) == (300, False)
    assert 16 <= found.sampled < 300


@pytest.mark.parametrize("option", ["drop_black", "drop_similar", "scenes"])
def test_what_only_decoding_tells_is_an_upper_bound(option: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    options: dict[str, Any] = {option: True}
    found, done = estimated(path, **options), run(path, **options).result
    assert found.at_most
    assert found.frames >= done.frames


def test_it_fails_as_the_extraction_would(clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    with pytest.raises(NoFrames):
        estimated(path, start="9")
    with pytest.raises(TooManyFrames):
        estimated(path, fps=25, limits=Limits(max_frames=10))
    with pytest.raises(OutputTooLarge, match=r"The ZIP of 3 frames needs about 15\.\d kB; 10\.0 kB are allowed\."):
        estimated(path, limits=Limits(max_output_bytes=10_000))
    assert estimated(path, limits=Limits(max_output_bytes=10_000), drop_black=True).size > 10_000
