"""The decoder child is not trusted: what it says is checked before it reaches FFmpeg, a file or a terminal."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from array import array
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import pytest

from fiapx.core.errors import DecoderFailed, NoVideoStream
from fiapx.media import filters
from fiapx.media.contents import Contents
from fiapx.media.decoder import child_error, sense
from fiapx.media.ipc import read_index, read_message, write_index
from fiapx.media.manifest import source_record
from fiapx.media.model import Index, VideoInfo

INFO = VideoInfo(
    "mp4", "h264", 64, 48, "yuv420p", Fraction(1), "bt709", False, (), 0, Fraction(1, 25), 0, None, 0
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"orientation": ("movie=/etc/passwd",)},
        {"matrix": "bt709:flags=print_info"},
        {"width": 0},
        {"time_base": Fraction(0)},
        {"sample_aspect": Fraction(-1)},
        {"declared_duration": float("inf")},
        {"start_pts": "0"},
        {"transfer": "smpte2084\x1b[2J"},
        {"primaries": "bt2020,movie=/etc/passwd"},
        {"peak": float("inf")},
        {"peak": -1.0},
        {"rotation": "\x1b[2J"},
        {"start_pts": 10**200},
        {"declared_duration": 1e308},
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    filters.check_info(INFO)
    with pytest.raises(ValueError, match="no sense"):
        filters.check_info(replace(INFO, **change))


@pytest.mark.parametrize(
    "head", [b"7", b"[" * 50_000, b"\xff", b"{}x", b"null"], ids=lambda head: head[:5].decode("latin1")
)
def test_nonsense_is_a_failure_of_the_decoder(head: bytes) -> None:
    with pytest.raises(DecoderFailed), sense():
        read_message(io.BytesIO(struct.pack(">III", len(head), 0, 0) + head))


@pytest.mark.parametrize("ratio", ["1/0", "1e-5000", "9" * 4000, "nan", 0.5, None], ids=lambda ratio: str(ratio)[:9])
def test_a_strange_ratio_is_a_failure_of_the_decoder(ratio: Any) -> None:
    with pytest.raises(DecoderFailed), sense():
        VideoInfo.from_json(asdict(INFO) | {"sample_aspect": "1", "time_base": ratio})
    stream = {"index": 0, "kind": "video", "codec": "h264", "rate": ratio}
    if ratio is not None:
        with pytest.raises(DecoderFailed), sense():
            Contents.from_json({"format": "avi", "description": "AVI", "duration": 1.0, "streams": [stream]})


@pytest.mark.parametrize(
    "change",
    [{"end_pts": 10**400}, {"streams_end": float("nan")}, {"streams_end": 1e307}, {"packets": 10**400}],
    ids=lambda change: str(change)[:24],
)
def test_an_index_of_impossible_numbers_is_a_failure_of_the_decoder(change: dict[str, Any]) -> None:
    index = Index(array("q", [0]), b"\1", 1, reliable=True, packets=1, streams_end=1.0)
    stream = io.BytesIO()
    write_index(stream, INFO, replace(index, **change))
    message = read_message(io.BytesIO(stream.getvalue()))
    assert message is not None
    with pytest.raises(DecoderFailed), sense():
        read_index(message)


def test_it_can_blame_the_video_and_nothing_else() -> None:
    assert isinstance(child_error({"code": "no_video_stream", "message": "none"}), NoVideoStream)
    for code in ("cancelled", "ffmpeg_missing", "auth_required", None):
        assert type(child_error({"code": code, "message": "x"})) is DecoderFailed
    assert child_error({"code": "media_error", "message": "\x1b[2J" + "x" * 9999}).message.startswith("\\x1b[2Jxxx")
    assert len(child_error({"code": "media_error", "message": "x" * 9999}).message) <= 300


def test_a_name_that_is_no_text_is_written_as_an_escape() -> None:
    record = source_record("\udcff.mp4", 1, "", INFO, 1.0)
    assert json.loads(json.dumps(record, ensure_ascii=False).encode())["name"] == "\\udcff.mp4"


def test_it_loads_nothing_that_it_does_not_need() -> None:
    """A short clip takes less time than loading pydantic does."""
    check = "import sys, fiapx.media.child; print({'pydantic', 'asyncio', 'typer', 'ffmpeg'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", check], text=True) == "set()\n"
