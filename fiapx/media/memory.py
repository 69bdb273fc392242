"""What decoding a video takes of memory, so that large pictures are decoded by fewer processes."""

from __future__ import annotations

import re
from typing import Final

from fiapx.media.model import Index, VideoInfo

_ALLOWED: Final = 300 * 10**6
"""Bytes for each process that may decode. Where they take more, fewer do."""
_PROCESS: Final = 45 * 10**6
"""Bytes of a process that has nothing to do yet."""
_HELD: Final = 12
"""Decoded pictures that a decoder holds, as others refer to them, and those on their way (measured: HEVC in 4K)."""
_HELD_OF_INTRA: Final = 3
_MADE: Final = 12
"""Bytes a pixel of what is made of a picture: itself as RGB, filtered, deflated, and as a file. HDR has twice as many.
"""
_DEEP: Final = re.compile(r"(?:9|1[0-6])(?:[lb]e)?$|48|64")
"""Of pixel formats with more than 8 bits a sample."""


def decoder_bytes(info: VideoInfo, index: Index) -> int:
    """What one process takes that decodes this video."""
    samples = 1.5 if "420" in info.pixel_format else 2 if "422" in info.pixel_format else 3
    held = _HELD_OF_INTRA if all(index.keyframes) else _HELD
    decoded = held * samples * (2 if _DEEP.search(info.pixel_format) else 1)
    made = _MADE * (2 if info.hdr else 1)
    return _PROCESS + int(info.width * info.height * (decoded + made))


def is_large(info: VideoInfo, index: Index) -> bool:
    """Whether one process takes more than is allowed for one."""
    return decoder_bytes(info, index) > _ALLOWED


def affordable(info: VideoInfo, index: Index, processes: int) -> int:
    """How many of so many `processes` may decode this video at a time; one in any case."""
    return max(1, min(processes, processes * _ALLOWED // decoder_bytes(info, index)))
