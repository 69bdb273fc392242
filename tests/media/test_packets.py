"""Jumping to a keyframe comes to the very packets that reading on would have come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiapx.media import packets
from fiapx.media.index import build_index
from fiapx.media.model import Index
from fiapx.media.packets import Packets
from tests.media.clips import BY_NAME

NAMES = (
    "h264-bframes.mp4",
    "h264-fragmented.mp4",
    "h264-open-gop.mkv",
    "vp9.webm",
    "vp8-offset.mkv",
    "prores.mov",
    "h263-all-keyframes.avi",
)
"""The last one's container does not know where its keyframes lie: nobody jumps in it."""


def _read(reader: Packets, first: int, last: int, index: Index) -> list[tuple[int, bytes]]:
    return [(ordinal, bytes(packet)) for ordinal, packet in reader.read(first, last, index)]


@pytest.mark.parametrize("name", NAMES)
def test_a_jump_leads_to_the_same_packets(name: str, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumped = []

    class Watched(Packets):
        def _jump(self, target: int, index: Index) -> None:
            super()._jump(target, index)
            jumped.append(self.cursor == target)

    with BY_NAME[name].make(clips).open("rb", buffering=0) as file:
        reader = Watched(file.fileno())
        index = build_index(reader.container, reader.stream)
        reader.reopen()
        whole = _read(reader, 0, len(index.pts) - 1, index)
        assert [ordinal for ordinal, _ in whole] == list(range(len(index.pts)))
        monkeypatch.setattr(packets, "_FAR", -1)  # every group of pictures is worth a jump
        starts = [ordinal for ordinal, key in enumerate(index.keyframes) if key]
        for start in (*starts[::3], starts[0], starts[-1]):
            assert _read(reader, start, start + 1, index) == whole[start : start + 2]
    assert jumped
    assert all(jumped) == (name != NAMES[-1])
