"""Segments that are made elsewhere and joined give the same ZIP, byte for byte."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fiapx.core.errors import EngineMismatch, SourceMismatch
from fiapx.core.options import extract_options
from fiapx.media.extract import extract
from fiapx.media.model import EncodedFrame, Refused, Run, Source
from fiapx.media.segments import Segment
from fiapx.media.task import Task, frames, perform
from tests.media.clips import X264, Clip, damaged
from tests.media.extracting import Extracted, run

CLIP = Clip("segments.mp4", (*X264, "-bf", "3", "-g", "30", "-x264-params", "open-gop=1"), frames=300)

ELSEWHERE = """
import sys
from fiapx.media.model import Source
from fiapx.media.task import Task, perform
with open(sys.argv[1], "rb", buffering=0) as file:
    perform(Task.from_json(sys.stdin.read()), Source("another name.mp4", file), sys.stdout.buffer)
"""


def _joined(path: Path, alone: Extracted, **options: Any) -> tuple[bytes, int]:
    """The ZIP of parts that were each made by a process of its own, and their number."""
    sha256, wanted, parts = alone.manifest()["source"]["sha256"], extract_options(**options), []

    def decode(segments: Iterable[Segment]) -> Generator[EncodedFrame | Refused]:
        for segment in segments:
            command = [sys.executable, "-c", ELSEWHERE, str(path)]
            task = Task.of(sha256, wanted, [segment]).to_json().encode()
            part = subprocess.run(command, input=task, stdout=subprocess.PIPE, check=True, timeout=60).stdout
            parts.append(part)
            yield from frames(io.BytesIO(part))

    output = io.BytesIO()
    with path.open("rb", buffering=0) as file:
        extract(Source(path.name, file), wanted, output, spread=lambda _local, _info: decode)
    return output.getvalue(), len(parts)


@pytest.mark.parametrize(
    "options",
    [{"fps": 5}, {"fps": 3, "format": "png", "drop_similar": 2.0, "sheet": True}, {"scenes": 5.0}],
    ids=["jpg", "cleaned", "scenes"],
)
def test_parts_that_other_processes_made_are_joined_to_the_same_zip(options: dict[str, Any], clips: Path) -> None:
    path = CLIP.make(clips)
    alone = run(path, **options)
    joined, parts = _joined(path, alone, **options)
    assert parts > 1
    assert joined == alone.data


def test_parts_tell_of_damage_too(clips: Path, tmp_path: Path) -> None:
    whole = Clip("damage.mp4", (*X264, "-bf", "0", "-g", "15")).make(clips)
    path = damaged(whole, tmp_path / "damaged.mp4", 0, 3, 20, 45, 74)
    alone = run(path, step=1, engine="fast")
    assert {warning.code for warning in alone.result.warnings} == {"source_damaged", "frames_missing"}
    assert _joined(path, alone, step=1, engine="fast")[0] == alone.data


def test_a_task_survives_its_own_json() -> None:
    task = Task.of(
        "ab" * 32,
        extract_options(at="10,50%", drop_black=True),
        (Segment((Run(0, 3, (0, 512)),), "thumbnail"), Segment((Run(4, 4, (9,)),), threads=2)),
    )
    assert Task.from_json(task.to_json()) == task


def test_another_engine_or_source_is_refused(clips: Path) -> None:
    path = CLIP.make(clips)
    task = Task.of("00" * 32, extract_options(), [Segment((Run(0, 0, (0,)),))])
    with path.open("rb", buffering=0) as file:
        with pytest.raises(EngineMismatch):
            perform(replace(task, engine="another"), Source("x", file), io.BytesIO())
        with pytest.raises(SourceMismatch):
            perform(task, Source("x", file), io.BytesIO())


def test_half_a_part_is_refused(clips: Path) -> None:
    path, part = CLIP.make(clips), io.BytesIO()
    sha256 = run(path, at="0").manifest()["source"]["sha256"]
    task = Task.of(sha256, extract_options(), [Segment((Run(0, 0, (0,)),))])
    with path.open("rb", buffering=0) as file:
        perform(task, Source("x", file), part)
    assert [type(made) for made in frames(io.BytesIO(part.getvalue()))] == [EncodedFrame, frozenset]
    with pytest.raises(ValueError, match="too early"):
        list(frames(io.BytesIO(part.getvalue()[:-1])))
