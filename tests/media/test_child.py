"""The decoder child is not trusted: what it says is checked before it reaches FFmpeg, a file or a terminal."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import pytest

from fiapx.core.errors import DecoderFailed, NoVideoStream
from fiapx.media import filters
from fiapx.media.decoder import child_error, sense
from fiapx.media.ipc import read_message
from fiapx.media.manifest import source_record
from fiapx.media.model import VideoInfo

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
        read_message(io.BytesIO(struct.pack(">II", len(head), 0) + head))


def test_a_zero_time_base_is_a_failure_of_the_decoder() -> None:
    values = asdict(INFO) | {"sample_aspect": "1", "time_base": "1/0"}
    with pytest.raises(DecoderFailed), sense():
        VideoInfo.from_json(values)


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
