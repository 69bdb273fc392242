"""Large pictures: fewer processes decode them at a time, and no more of them are held than it takes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fiapx.media import reference
from fiapx.media.memory import affordable, is_large
from fiapx.media.model import EncodedFrame, Index
from tests.media import facts
from tests.media.clips import BY_NAME
from tests.media.test_pool import NOISE, taking_part

GROUPS = facts.index(range(0, 1000, 40))
INTRA = facts.index(range(0, 1000, 40), keyframes=b"\1" * 25)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.parametrize(
    ("size", "pixels", "transfer", "index", "of_two", "of_eight"),
    [
        ((1920, 1080), "yuv420p", "bt709", GROUPS, 2, 8),
        ((1920, 1080), "yuv420p10le", "smpte2084", GROUPS, 2, 8),
        ((1920, 1080), "yuv444p12le", "bt709", GROUPS, 2, 8),
        ((3840, 2160), "yuv420p", "bt709", GROUPS, 2, 8),
        ((3840, 2160), "yuv420p10le", "bt709", GROUPS, 1, 5),
        ((3840, 2160), "yuv420p10le", "arib-std-b67", GROUPS, 1, 4),
        ((3840, 2160), "yuv422p10le", "bt709", INTRA, 2, 8),
        ((3840, 2160), "yuv422p10le", "smpte2084", INTRA, 1, 6),
        ((7680, 4320), "yuv420p", "bt709", GROUPS, 1, 2),
        ((7680, 4320), "yuv420p10be", "bt709", GROUPS, 1, 1),
    ],
    ids=lambda value: "" if isinstance(value, Index) else str(value),
)
def test_fewer_decode_the_larger_the_pictures_are(
    size: tuple[int, int], pixels: str, transfer: str, index: Index, of_two: int, of_eight: int
) -> None:
    info = replace(facts.info(), width=size[0], height=size[1], pixel_format=pixels, transfer=transfer)
    assert (affordable(info, index, 2), affordable(info, index, 8)) == (of_two, of_eight)
    assert affordable(info, index, 1) == 1
    assert is_large(info, index) == (of_eight < 8)


@linux
def test_as_many_children_as_memory_allows_take_part(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = NOISE.make(clips)
    monkeypatch.setattr("fiapx.media.pool._LARGE", 1 << 40)  # no child is at hand that has no work
    assert max(taking_part(path, 3, step=2)) == 3
    monkeypatch.setattr("fiapx.media.memory._ALLOWED", 30 * 10**6)
    assert max(taking_part(path, 3, step=2)) == 1


@linux
def test_no_child_is_kept_while_ffmpeg_works(clips: Path) -> None:
    seen = taking_part(BY_NAME["h264-bframes.mp4"].make(clips), 2, step=1, engine="ffmpeg")
    assert set(seen) <= {0, 1}, "FFmpeg itself"
    assert 1 in seen


@pytest.mark.parametrize(
    ("order", "given", "ahead"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), 1),
        ((1, 3, 4, 2), (1, 2, 3, 4), 3),
        ((2, 2, 3, 4), (2, 2, 3, 4), 3),
        ((1, 2, 2, 3), (1, 2, 2, 3), 1),
    ],
    ids=str,
)
def test_ffmpegs_frames_wait_only_for_one_that_is_missing(
    order: tuple[int, ...], given: tuple[int, ...], ahead: int
) -> None:
    asked = []

    def coming() -> Any:
        for pts in order:
            asked.append(pts)
            yield EncodedFrame(pts, 1, 1, b"x")

    frames = reference.in_order(coming(), (1, 2, 3, 4))
    first = next(frames)
    assert len(asked) <= ahead + 1
    assert (first.pts, *(frame.pts for frame in frames)) == given
