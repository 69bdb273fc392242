"""Decode the wanted frames and as little else as possible, with PyAV. Runs in the child.

Packets nothing wanted depends on go in with ``skip_frame=NONREF``. A wanted frame that does not come out is decoded
again from earlier keyframes with nothing skipped; it is never replaced by a neighbour. A container's keyframe flags
are not trusted: where a start turns out to be no intra picture, the video is decoded whole, from its beginning.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, cast

import av
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from fiapx.core.errors import CorruptMedia
from fiapx.media import filters
from fiapx.media.index import build_index
from fiapx.media.model import NOT_SHOWN, Index, Run, VideoInfo
from fiapx.media.packets import Packets
from fiapx.media.probe import describe

_EARLIER: Final = (0, 1, 4)
"""How many keyframes earlier than planned to start, one try after the other, while a frame has not come out."""
_DISPOSABLE: Final = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs whose unreferenced pictures leave nothing behind that a later one needs, as VP8's segment maps are."""
_HEVC_SPS: Final = re.compile(rb"\x42\x01(.)", re.DOTALL)
"""The header of a sequence parameter set, and the byte whose bits 1 to 3 count its temporal layers less one."""


class VideoDecoder:
    """One video, opened once and read in order; a run that lies behind opens it again."""

    def __init__(self, descriptor: int, max_pixels: int, known: tuple[VideoInfo, Index] | None = None) -> None:
        """`known`: what another decoder has found out about the video already."""
        self._packets = Packets(descriptor)
        self._max_pixels = max_pixels
        self.refused: set[int] = set()
        """Ordinals of the packets that the decoder refused."""
        stream = self._packets.stream
        filters.check_pixels(stream.width or 0, stream.height or 0, max_pixels)
        self.info, self.index = known or self._find_out()
        self._starts = _keyframes(self.index)
        self._disposable = _has_disposable_pictures(self._packets.stream)
        self._whole: Iterator[VideoFrame] | None = None
        self._ahead: VideoFrame | None = None
        self._passed = NOT_SHOWN
        """Pts of the last frame that decoding the whole video has left behind."""

    def _find_out(self) -> tuple[VideoInfo, Index]:
        packets = self._packets
        self.index = index = build_index(packets.container, packets.stream)
        packets.reopen()
        first = self._first_picture(_keyframes(index)[0])
        info = describe(packets.container, packets.stream, first)
        packets.decoder.flush_buffers()
        return info, _beginning_with(first.pts, index)

    def use(self, threads: int) -> None:
        """Decode with so many threads from now on."""
        if threads != self._packets.threads:
            self._packets.threads = threads
            self._packets.reopen()
            if self._whole is not None:
                self._decode_whole()

    def frames(self, run: Run) -> Iterator[tuple[int, VideoFrame]]:
        """(pts, frame) of the run's wanted frames. What cannot be decoded is left out."""
        missing = set(run.wanted)
        position = bisect_left(self._starts, run.first)
        for earlier in _EARLIER:
            if missing and self._whole is None:
                first = self._starts[position - earlier] if earlier <= position < len(self._starts) else 0
                yield from self._decode(first, run.last, missing, exact=earlier > 0)
        if missing and self._whole is not None:
            yield from self._decode_on(missing)

    def _decode(self, first: int, last: int, missing: set[int], *, exact: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from a keyframe. Where it turns out to be none, give nothing and turn to decoding the whole video."""
        wanted, start, proven = frozenset(missing), self.index.pts[first], first == 0
        for frame in self._fed(first, last, None if exact else wanted | {start}):
            if not proven and (frame.pts is None or frame.pts < start):
                continue  # leading pictures, which may refer to what was not decoded
            if not proven and (frame.pts != start or not _intra(frame)):
                self._decode_whole()
                break
            proven = True
            if frame.pts in missing:
                missing.remove(frame.pts)
                yield frame.pts, frame
            del frame  # its memory is for one that is decoded now
        self._packets.decoder.flush_buffers()

    def _decode_whole(self) -> None:
        self._whole = self._fed(0, len(self.index.pts) - 1, None)
        self._ahead, self._passed = None, NOT_SHOWN

    def _decode_on(self, missing: set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Go on decoding the whole video until the missing frames have come out, or one after them has; anew where
        they lie behind, as after a look at all frames for scenes."""
        if min(missing) <= self._passed:
            self._decode_whole()
        last = max(missing)
        while (frame := self._ahead or next(cast("Any", self._whole), None)) is not None:
            self._ahead = frame if frame.pts is not None and frame.pts > last else None
            if self._ahead or not missing:
                return
            self._passed = frame.pts if frame.pts is not None else self._passed
            if frame.pts in missing:
                missing.remove(frame.pts)
                yield frame.pts, frame

    def _fed(self, first: int, last: int, wanted: frozenset[int] | None) -> Iterator[VideoFrame]:
        """The frames that come out of packets `first` to `last`; given `wanted`, not others that nothing refers to."""
        for ordinal, packet in self._packets.read(first, last, self.index):
            keep = wanted is None or not self._disposable or self.index.pts[ordinal] in wanted
            self._packets.decoder.skip_frame = "DEFAULT" if keep else "NONREF"
            yield from self._feed(packet)
        yield from self._feed(None)

    def _feed(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            frames = self._packets.decoder.decode(packet)
        except av.error.FFmpegError:
            self.refused.add(max(self._packets.cursor - 1, 0))
            return []
        for frame in frames:
            filters.check_pixels(frame.width, frame.height, self._max_pixels)
        return frames

    def _first_picture(self, keyframe: int) -> VideoFrame:
        """The first frame that needs none before it: a recording may begin in the middle of a group of pictures."""
        for frame in self._fed(0, len(self.index.pts) - 1, None):
            if keyframe == 0 or _intra(frame) or (frame.pts is not None and frame.pts >= self.index.pts[keyframe]):
                if keyframe:
                    self.refused.clear()
                return frame
        raise CorruptMedia("No picture of the video can be decoded.")


def _keyframes(index: Index) -> list[int]:
    """Ordinals of the packets at which decoding may start."""
    return [ordinal for ordinal, key in enumerate(index.keyframes) if key] or [0]


def _intra(frame: VideoFrame) -> bool:
    return bool(frame.key_frame) or frame.pict_type == PictureType.I


def _has_disposable_pictures(stream: VideoStream) -> bool:
    """Whether ``skip_frame=NONREF`` is safe. In HEVC, higher temporal layers may refer to a picture that is marked as
    unreferenced in its own (ITU-T H.265, "sub-layer non-reference picture")."""
    context = stream.codec_context
    if context.codec.name != "hevc":
        return context.codec.name in _DISPOSABLE
    layers = [sps[0] >> 1 & 7 for sps in _HEVC_SPS.findall(context.extradata or b"")]
    return bool(layers) and not any(layers)


def _beginning_with(first: int | None, index: Index) -> Index:
    """The index without what is shown before the first frame that can be decoded."""
    if first is None or not index.reliable:
        return index
    return replace(index, pts=array("q", (pts if pts >= first else NOT_SHOWN for pts in index.pts)))
