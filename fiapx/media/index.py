"""Every packet's time and keyframe flag, by demuxing alone: 0.2 s for ten minutes of video. Runs in the child."""

from __future__ import annotations

from array import array
from fractions import Fraction
from typing import Any, Final, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from fiapx.core.errors import CorruptMedia
from fiapx.media.formats import JOINABLE
from fiapx.media.model import NOT_SHOWN, Index

_REORDERING: Final = frozenset({"h264", "hevc"})
_NO_TIMES: Final = frozenset({"mpegvideo"})
"""Bare streams: versions of FFmpeg disagree on the times that they make up."""
_JUMP: Final = 10
"""Seconds between two packets from which on FFmpeg takes their clocks for different ones."""
_MPEG4_PICTURE: Final = b"\0\0\1\xb6"


def build_index(container: InputContainer, stream: VideoStream) -> Index:
    """Demux to the end. Raises CorruptMedia where there is not one packet of video."""
    builder = _Builder(stream, Fraction(container.start_time or 0, av.time_base), mp4="mp4" in container.format.name)
    try:
        for packet in container.demux():
            builder.add(packet)
    except av.error.FFmpegError:
        builder.damaged += 1
    avi = container.format.name == "avi"
    no_times = container.format.name in _NO_TIMES or (avi and stream.codec_context.codec.name in _REORDERING)
    no_times |= (
        builder.packed
        or (builder.jumps and container.format.name in JOINABLE)
        or (builder.mpeg4 and stream.codec_context.has_b_frames and builder.in_order and builder.depends)
    )
    return builder.index(reliable=not no_times, frames_by_time=avi)


class _Builder:
    def __init__(self, stream: VideoStream, start: Fraction, *, mp4: bool) -> None:
        self._stream_index = stream.index
        self._start = start
        rate = stream.average_rate
        self._frame_ticks = round(1 / (rate * cast("Fraction", stream.time_base))) if rate else 1
        self.mpeg4 = stream.codec_context.codec.name == "mpeg4"
        self.packed = False
        """Packets hold several MPEG-4 pictures each."""
        self.jumps = False
        """Decoding times go back, or far ahead."""
        self._decoded: int | None = None
        self._begin: tuple[int, int] | None = None
        """Decoding and presentation time of the first packet, where it is decoded and not shown."""
        self._decoded_end = 0
        self.in_order = True
        """Each packet is shown after the one before, as where there are no B-frames."""
        self._pts = array("q")
        self._keyframes = bytearray()
        self._last: int | None = None
        self._end = 0
        self._declared_end = _declared_end(stream) if mp4 else None
        self._streams_end = start
        self._untimed = 0
        self._packets = 0
        self.damaged = 0

    def add(self, packet: Packet[Any]) -> None:
        """Take in a packet of any stream."""
        time = packet.pts if packet.pts is not None else packet.dts
        if not packet.size and time is None:
            return  # PyAV's mark of a stream's end
        if time is not None and packet.time_base:
            self._streams_end = max(self._streams_end, (time + (packet.duration or 0)) * packet.time_base)
        if packet.stream_index != self._stream_index:
            return
        self._packets += 1
        if not packet.size:
            return
        self.damaged += packet.is_corrupt
        self._untimed += packet.pts is None
        if packet.dts is not None:
            step = 0 if self._decoded is None else packet.dts - self._decoded
            self.jumps |= not 0 <= step * packet.time_base <= _JUMP
            self._decoded = packet.dts
            self._decoded_end = packet.dts + (packet.duration or self._frame_ticks)
        self.packed |= self.mpeg4 and bytes(packet).count(_MPEG4_PICTURE) > 1
        self._keyframes.append(packet.is_keyframe)
        if packet.is_discard and self._packets == 1 and packet.dts is not None and packet.pts is not None:
            self._begin = packet.dts, packet.pts
        if packet.is_discard or time is None:
            self._pts.append(NOT_SHOWN)
            return
        self.in_order &= self._last is None or time >= self._pts[-1]
        self._pts.append(time)
        if self._last is None or time >= self._last:
            self._last, self._end = time, time + (packet.duration or self._frame_ticks)

    @property
    def depends(self) -> bool:
        """There are pictures that need others."""
        return not all(self._keyframes)

    def _video_end(self) -> int:
        """Last frame's pts plus its duration. MP4 stores the steps between decoding times, which are no durations where
        frames are reordered, but never reach past the duration of the whole stream. Where an edit list begins between
        two frames, FFmpeg shows the second one earlier, and not the declared end; but decoding and showing last equally
        long."""
        ends = [self._end]
        if self._declared_end is not None:
            ends.append(self._declared_end)
            if self._begin is not None:
                decoded, shown = self._begin
                ends.append(shown + self._decoded_end - decoded)
        return min((end for end in ends if end > (self._last or 0)), default=self._end)

    def index(self, *, reliable: bool, frames_by_time: bool) -> Index:
        """`frames_by_time`: a tick is a frame, and those that were dropped have no packets."""
        if not self._pts:
            raise CorruptMedia
        shown = [pts for pts in self._pts if pts != NOT_SHOWN]
        return Index(
            pts=self._pts,
            keyframes=bytes(self._keyframes),
            end_pts=self._video_end(),
            reliable=reliable and not self._untimed and len(set(shown)) == len(shown),
            packets=max(self._packets, self._end) if frames_by_time else self._packets,
            streams_end=float(max(self._streams_end - self._start, self._streams_end)),  # Matroska's counts from 0
            damaged=self.damaged,
        )


def _declared_end(stream: VideoStream) -> int | None:
    if stream.start_time is None or not stream.duration:
        return None
    return stream.start_time + stream.duration
