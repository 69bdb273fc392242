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
from fiapx.media.model import EncodedFrame, Run, Source
from fiapx.media.segments import Segment
from fiapx.media.task import Task, frames, perform
from tests.media.clips import X264, Clip
from tests.media.extracting import run

CLIP = Clip("segments.mp4", (*X264, "-bf", "3", "-g", "30", "-x264-params", "open-gop=1"), frames=300)

ELSEWHERE = """
import sys
from fiapx.media.model import Source
from fiapx.media.task import Task, perform
with open(sys.argv[1], "rb", buffering=0) as file:
    perform(Task.from_json(sys.stdin.read()), Source("another name.mp4", file), sys.stdout.buffer)
"""


@pytest.mark.parametrize(
    "options",
    [{"fps": 5}, {"fps": 3, "format": "png", "drop_similar": 2.0, "sheet": True}, {"scenes": 5.0}],
    ids=["jpg", "cleaned", "scenes"],
)
def test_parts_that_other_processes_made_are_joined_to_the_same_zip(options: dict[str, Any], clips: Path) -> None:
    path = CLIP.make(clips)
    alone = run(path, **options)
    sha256, wanted, parts = alone.manifest()["source"]["sha256"], extract_options(**options), []

    def decode(segments: Iterable[Segment]) -> Generator[EncodedFrame]:
        for segment in segments:
            command = [sys.executable, "-c", ELSEWHERE, str(path)]
            task = Task.of(sha256, wanted, segment).to_json().encode()
            part = subprocess.run(command, input=task, stdout=subprocess.PIPE, check=True, timeout=60).stdout
            parts.append(part)
            yield from frames(io.BytesIO(part))

    output = io.BytesIO()
    with path.open("rb", buffering=0) as file:
        extract(Source(path.name, file), wanted, output, decode=decode)
    assert len(parts) > 1
    assert output.getvalue() == alone.data


def test_a_task_survives_its_own_json() -> None:
    task = Task.of(
        "ab" * 32, extract_options(at="10,50%", drop_black=True), Segment((Run(0, 3, (0, 512)),), "thumbnail")
    )
    assert Task.from_json(task.to_json()) == task


def test_another_engine_or_source_is_refused(clips: Path) -> None:
    path = CLIP.make(clips)
    task = Task.of("00" * 32, extract_options(), Segment((Run(0, 0, (0,)),)))
    with path.open("rb", buffering=0) as file:
        with pytest.raises(EngineMismatch):
            perform(replace(task, engine="another"), Source("x", file), io.BytesIO())
        with pytest.raises(SourceMismatch):
            perform(task, Source("x", file), io.BytesIO())


def test_half_a_part_is_refused(clips: Path) -> None:
    path, part = CLIP.make(clips), io.BytesIO()
    sha256 = run(path, at="0").manifest()["source"]["sha256"]
    task = Task.of(sha256, extract_options(), Segment((Run(0, 0, (0,)),)))
    with path.open("rb", buffering=0) as file:
        perform(task, Source("x", file), part)
    assert len(list(frames(io.BytesIO(part.getvalue())))) == 1
    with pytest.raises(ValueError, match="too early"):
        list(frames(io.BytesIO(part.getvalue()[:-1])))
