"""What `fiapx probe` tells of videos whose facts are known, since they were made that way."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from fiapx.core.errors import FiapxError
from fiapx.media.contents import Contents, Stream
from fiapx.media.inspect import Inspection, Video, inspect
from fiapx.media.model import Limits, Source
from tests.media.clips import BY_NAME, X264, Clip, ffmpeg
from tests.media.extracting import run
from tests.media.test_bad_input import BAD

_GOP_20 = (*X264, "-bf", "0", "-g", "20", "-sc_threshold", "0")


def look(path: Path, limits: Limits | None = None) -> Inspection:
    with path.open("rb", buffering=0) as file:
        return inspect(Source(path.name, file), limits or Limits())


def video(path: Path) -> Video:
    found = look(path).video
    assert found is not None
    return found


def problems(path: Path) -> list[str]:
    return [problem.code for problem in video(path).problems]


@pytest.mark.parametrize(
    ("name", "rate", "variable"),
    [
        ("h264-bframes.mp4", Fraction(25), False),
        ("h264-ntsc.mp4", Fraction(30000, 1001), False),
        ("h264.flv", Fraction(25), False),
        ("vp9.webm", Fraction(25), False),
        ("mpeg2.ts", Fraction(25), False),
        ("h264-vfr.mp4", Fraction(74, 1) / Fraction(74 + 3 * 10, 25), True),
        ("h264-in-avi.avi", Fraction(25), None),
    ],
)
def test_rate(name: str, rate: Fraction, variable: bool | None, clips: Path) -> None:
    found = video(BY_NAME[name].make(clips))
    assert found.timing.frames == 75
    assert found.timing.rate is not None
    assert float(found.timing.rate) == pytest.approx(float(rate), rel=1e-3)
    assert found.timing.variable is variable
    if variable is False:
        assert found.timing.rate == rate


def test_a_rate_is_found_through_times_that_are_rounded_to_milliseconds(clips: Path) -> None:
    found = video(replace(BY_NAME["h264-ntsc.mp4"], name="ntsc.mkv").make(clips)).timing
    assert (found.rate, found.variable) == (Fraction(30000, 1001), False)
    assert found.shortest == pytest.approx(0.033)


def test_steps_of_a_variable_rate(clips: Path) -> None:
    found = video(BY_NAME["h264-vfr.mp4"].make(clips)).timing
    assert [found.shortest, found.longest] == pytest.approx([0.04, 0.16])


def test_keyframes(clips: Path) -> None:
    found = video(Clip("gop20.mp4", _GOP_20).make(clips)).keyframes
    assert [found.count, found.mean, found.longest] == pytest.approx([4, 0.75, 0.8])
    assert not found.open_gop


@pytest.mark.parametrize("name", ["h264-open-gop.mkv", "hevc-open-gop.mp4"])
def test_open_groups_of_pictures(name: str, clips: Path) -> None:
    assert video(BY_NAME[name].make(clips)).keyframes.open_gop


def test_the_picture(clips: Path) -> None:
    anamorphic = video(BY_NAME["h264-anamorphic.mp4"].make(clips))
    assert anamorphic.picture_size == (256, 128)
    assert anamorphic.stream.interlaced is False
    assert video(BY_NAME["h264-10bit.mkv"].make(clips)).stream.bit_depth == 10
    assert video(BY_NAME["h264-interlaced.mp4"].make(clips)).stream.interlaced is True


@pytest.mark.parametrize(("transfer", "hdr"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG"), ("bt709", None)])
def test_hdr(transfer: str, hdr: str | None, clips: Path) -> None:
    tags = ("-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    clip = Clip(f"{transfer}.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", *tags), frames=5)
    found = video(clip.make(clips))
    assert (found.hdr, found.stream.transfer, found.stream.primaries) == (hdr, transfer, "bt2020")


def test_all_streams(clips: Path, tmp_path: Path) -> None:
    path, subtitles, cover = tmp_path / "all.mkv", tmp_path / "a.srt", tmp_path / "cover.png"
    subtitles.write_text("1\n00:00:00,500 --> 00:00:01,000\nOla\n")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-frames:v", "1", str(cover))
    ffmpeg(
        *("-i", str(BY_NAME["h264-bframes.mp4"].make(clips)), "-f", "lavfi", "-i", "sine=d=3:r=48000"),
        *("-i", str(subtitles), "-map", "0", "-map", "1", "-map", "1", "-map", "2", "-c:v", "copy", "-c:a", "aac"),
        *("-metadata:s:a:0", "language=por", "-metadata:s:a:1", "language=eng", "-metadata:s:s:0", "language=jpn"),
        *("-disposition:a:1", "default", "-disposition:a:0", "0", "-disposition:s:0", "forced"),
        *("-attach", str(cover), "-metadata:s:t", "mimetype=image/png", str(path)),
    )
    streams = look(path).contents.streams
    assert [(stream.kind, stream.language) for stream in streams[:4]] == [
        *(("video", None), ("audio", "por"), ("audio", "eng"), ("subtitle", "jpn")),
    ]
    assert [(stream.default, stream.forced) for stream in streams[1:4]] == [
        *((False, False), (True, False), (False, True)),
    ]
    assert (streams[1].codec, streams[1].sample_rate) == ("aac", 48000)
    assert streams[4].cover
    assert problems(path) == []
    assert len(run(path).images()) == 3


def test_no_problem_is_seen_where_there_is_none(clips: Path) -> None:
    sound = ("h264-bframes.mp4", "h264-vfr.mp4", "mpeg2.ts", "mpeg4.avi", "prores.mov", "vp8-offset.mkv", "theora.ogv")
    assert {name: problems(BY_NAME[name].make(clips)) for name in sound} == {name: [] for name in sound}


def test_problems(clips: Path, tmp_path: Path) -> None:
    assert problems(BY_NAME["h264-in-avi.avi"].make(clips)) == ["no_timestamps"]
    assert problems(BY_NAME["late-start.mkv"].make(clips)) == ["late_start"]

    whole = BY_NAME["h264-open-gop.mkv"].make(clips).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    assert "source_truncated" in problems(tmp_path / "cut.mkv")

    rare = Clip("rare.mkv", (*X264, "-g", "9999", "-sc_threshold", "0"), frames=60, rate="2")
    assert problems(rare.make(clips)) == ["sparse_keyframes"]

    two = tmp_path / "two.mkv"
    source = str(BY_NAME["h264-bframes.mp4"].make(clips))
    ffmpeg("-i", source, "-map", "0:v", "-map", "0:v", "-c", "copy", str(two))
    assert problems(two) == ["several_videos"]

    odd = Clip("odd.mp4", X264, frames=3, filters="setsar=10/1")
    assert problems(odd.make(clips)) == ["odd_aspect_ratio"]
    absurd = Clip("absurd.avi", ("-c:v", "mpeg4"), frames=3, size=(640, 64), filters="setsar=sar=255:max=255")
    assert problems(absurd.make(clips)) == ["odd_aspect_ratio", "frame_too_large"]

    far = tmp_path / "far.mkv"
    BAD["far-apart"][0](far, far)
    assert {"long_frame"} <= {*problems(far)}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_has_the_code_that_extracting_it_has(kind: str, clips: Path, tmp_path: Path) -> None:
    maker, code = BAD[kind]
    path = tmp_path / "video.mp4"
    maker(path, BY_NAME["h264-bframes.mp4"].make(clips))
    try:
        error = look(path).error
    except FiapxError as raised:
        error = raised
    if code == "too_many_frames":
        assert error is None
    else:
        assert error is not None
        assert error.code == code


def test_streams_are_told_where_no_frame_can_be_extracted(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "video.mkv"
    BAD["unsupported-codec"][0](path, path)
    found = look(path)
    assert [(stream.kind, stream.codec) for stream in found.contents.streams] == [("video", "ffv1")]
    assert found.video is None
    assert json.dumps(found.as_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "movie"},
        {"codec": "x" * 201},
        {"width": -1},
        {"channels": {"a": 1}},
        {"rate": "0"},
        {"rate": "1/0"},
    ],
    ids=str,
)
def test_contents_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    stream = {"index": 0, "kind": "video", "codec": "h264"}
    good = {"format": "mp4", "description": "MP4", "duration": None, "streams": [stream]}
    assert Contents.from_json(good).streams == (Stream(0, "video", "h264"),)
    with pytest.raises((ValueError, ArithmeticError)):
        Contents.from_json(good | {"streams": [stream | change]})
    with pytest.raises(ValueError, match="at most"):
        Contents.from_json(good | {"streams": [stream] * 65})
