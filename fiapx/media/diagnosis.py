"""What may be wrong with a video, told by its index and its headers, each with a stable code."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from fiapx.core.errors import FrameTooLarge
from fiapx.media import filters
from fiapx.media.contents import Contents
from fiapx.media.model import Index, MediaWarning, VideoInfo
from fiapx.media.style import Style
from fiapx.media.timing import Keyframes, Timing

_TOLERANCE: Final = 0.25
"""Seconds, and the share below, by which a whole video may end before its declared duration."""
_TOLERANCE_SHARE: Final = 0.01
_LATE: Final = 0.25
"""Seconds after the container's start from which on a first frame is late: more than sound and B-frames explain."""
_LONG_INTERVAL: Final = 20.0
"""Seconds between keyframes; encoders make at most 10 or so unless they are told otherwise."""
_LONG_FRAME: Final = 60.0
"""Seconds that one frame is shown."""
_ODD_PIXEL: Final = 4


def of_source(info: VideoInfo, index: Index, refused: int = 0) -> list[MediaWarning]:
    """Whether the source is complete and whole. `refused`: packets that the decoder did not take."""
    found = []
    if counts := _cut_off(info, index):
        text = "The source is cut off: what is there ends before the duration that it declares."
        found.append(MediaWarning("source_truncated", text, counts))
    if damaged := index.damaged + refused:
        text = f"The source is damaged: {damaged} packets could not be read as they should."
        found.append(MediaWarning("source_damaged", text, {"packets": damaged}))
    return found


def _cut_off(info: VideoInfo, index: Index) -> dict[str, int] | None:
    """How much the container promises and how much there is, where that is less."""
    declared, frames = info.declared_duration or 0.0, info.declared_frames
    short = declared - index.streams_end > _TOLERANCE + _TOLERANCE_SHARE * declared
    fewer = frames - index.packets > 1 + _TOLERANCE_SHARE * frames
    if not short and not fewer:
        return None
    counts = {"declared_ms": round(declared * 1000), "read_ms": round(index.streams_end * 1000)}
    return counts | ({"declared_frames": frames, "read_frames": index.packets} if frames else {})


def of_extraction(
    info: VideoInfo, index: Index, contents: Contents, timing: Timing, keyframes: Keyframes, max_pixels: int
) -> Iterator[MediaWarning]:
    """What may surprise who extracts frames of it."""
    if not index.reliable:
        text = "It stores no usable times: FFmpeg's command line decodes it from beginning to end, which is slower."
        yield MediaWarning("no_timestamps", text)
    if len(videos := contents.videos) > 1:
        text = f"It holds {len(videos)} videos; frames are taken from stream {videos[0].index}."
        yield MediaWarning("several_videos", text, {"videos": len(videos)})
    if timing.start > _LATE:
        text = f"The first frame comes {timing.start:.3f} s after the start."
        yield MediaWarning("late_start", text, {"ms": round(timing.start * 1000)})
    if keyframes.longest > _LONG_INTERVAL:
        text = f"Keyframes lie up to {keyframes.longest:.1f} s apart, so that frames between them are slow to decode."
        yield MediaWarning("sparse_keyframes", text, {"ms": round(keyframes.longest * 1000)})
    if timing.longest > _LONG_FRAME:
        text = f"One frame is shown for {timing.longest:.0f} s, and taken as often as there are wanted times in them."
        yield MediaWarning("long_frame", text, {"ms": round(timing.longest * 1000)})
    if not Fraction(1, _ODD_PIXEL) <= info.sample_aspect <= _ODD_PIXEL:
        yield MediaWarning("odd_aspect_ratio", f"Its pixels are {info.sample_aspect} times as wide as high.")
    try:
        filters.check_pixels(*filters.picture_size(info, Style()), max_pixels)
    except FrameTooLarge as error:
        yield MediaWarning(error.code, error.message)
