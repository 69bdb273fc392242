"""Both engines give the frames that the rule names, pixel for pixel alike, and FFmpeg's own choice agrees."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from fiapx.core.options import extract_options
from fiapx.media.filters import chain
from fiapx.media.model import VideoInfo
from tests.media.clips import BY_NAME, CLIPS, Clip, read_number, witness
from tests.media.extracting import Extracted, run

SELECTIONS = ["1", "3", "1/2", "29.97"]


def _scale(extracted: Extracted) -> str:
    """The conversion of the manifest's source as a filter, so that the witness differs in choice and decoding alone."""
    source = extracted.manifest()["source"]
    info = VideoInfo(
        format="", codec="", width=source["width"], height=source["height"], pixel_format=source["pixel_format"],
        sample_aspect=Fraction(source["sample_aspect_ratio"]), matrix="smpte170m",
        full_range=source["pixel_format"].startswith("yuvj"), orientation=(), rotation=0, time_base=Fraction(1),
        start_pts=0, declared_duration=None, declared_frames=0,
    )  # fmt: skip
    name, arguments = chain(info, extract_options())[0]
    return name + "=" + ":".join(f"{key}={value}" for key, value in arguments.items())


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
@pytest.mark.parametrize("fps", ["3", "1/2"])
def test_engines_give_the_same_pixels_as_ffmpegs_own_fps_filter(clip: Clip, fps: str, clips: Path) -> None:
    path = clip.make(clips)
    fast = run(path, fps=fps, format="png", engine="auto")
    reference = run(path, fps=fps, format="png", engine="ffmpeg")
    assert reference.result.engine == "ffmpeg"
    assert fast.result.engine == ("ffmpeg" if clip.name == "h264-in-avi.avi" else "fast")
    assert fast.result.warnings == reference.result.warnings == ()
    assert [frame["file"] for frame in fast.manifest()["frames"]] == [
        frame["file"] for frame in reference.manifest()["frames"]
    ]
    digests = fast.pixel_digests()
    assert digests == reference.pixel_digests()
    expected = witness(path, fps, [_scale(fast)])
    assert digests == expected or (not expected and len(digests) == 1)
