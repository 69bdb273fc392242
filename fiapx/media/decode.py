"""Decode the wanted frames and as little else as possible, with PyAV. Runs in the child.

Packets nothing wanted depends on go in with ``skip_frame=NONREF``. A wanted frame that does not come out is decoded
again from earlier keyframes with nothing skipped; it is never replaced by a neighbour.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, cast

import av
import numpy as np
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fiapx.core.errors import CorruptMedia, FrameTooLarge
from fiapx.core.options import ExtractOptions
from fiapx.media import filters
from fiapx.media.encode import Pixels
from fiapx.media.formats import DECODER_OPTIONS
from fiapx.media.index import build_index
from fiapx.media.model import Index, Run, VideoInfo
from fiapx.media.probe import check_pixels, describe, open_video

_RETRIES: Final = (1, 4)
"""How many keyframes earlier to start again for a frame that did not come out."""


class VideoDecoder:
    """One video, opened once and read in order; a run that lies behind opens it again."""

    def __init__(self, descriptor: int, options: ExtractOptions, max_pixels: int) -> None:
        self._descriptor = descriptor
        self._options = options
        self._max_pixels = max_pixels
        self.errors = 0
        """Packets that the decoder refused."""
        self._open()
        check_pixels(self._stream, max_pixels)
        self.index: Index = build_index(self._container, self._stream)
        self._starts = [ordinal for ordinal, key in enumerate(self.index.keyframes) if key]
        self._open()
        self.info: VideoInfo = self._describe()
        self._open()
        self._convert = _Converter(self.info, options)

    def frames(self, run: Run) -> Iterator[tuple[int, Pixels]]:
        """(pts, RGB pixels) of the run's wanted frames. What cannot be decoded is left out."""
        missing = set(run.wanted)
        yield from self._decode(run.first, run.last, missing, exact=False)
        for earlier in _RETRIES:
            if not missing:
                return
            position = bisect_left(self._starts, run.first)
            first = self._starts[position - earlier] if position >= earlier else 0
            yield from self._decode(first, run.last, missing, exact=True)

    def _decode(self, first: int, last: int, missing: set[int], *, exact: bool) -> Iterator[tuple[int, Pixels]]:
        wanted = frozenset(missing)
        for ordinal, packet in self._packets(first, last):
            keep = exact or self.index.pts[ordinal] in wanted
            self._stream.codec_context.skip_frame = "DEFAULT" if keep else "NONREF"
            yield from self._wanted(packet, missing)
        yield from self._wanted(None, missing)
        self._stream.codec_context.flush_buffers()

    def _wanted(self, packet: Packet[VideoStream] | None, missing: set[int]) -> Iterator[tuple[int, Pixels]]:
        for frame in self._feed(packet):
            if frame.pts in missing:
                missing.remove(frame.pts)
                yield frame.pts, self._convert(frame)

    def _feed(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            self.errors += 1
            return []
        for frame in frames:
            if frame.width * frame.height > self._max_pixels:
                raise FrameTooLarge(f"The pictures grow to {frame.width}x{frame.height}.")
        return frames

    def _packets(self, first: int, last: int) -> Iterator[tuple[int, Packet[VideoStream]]]:
        if first < self._cursor:
            self._open()
        try:
            while self._cursor <= last and (packet := next(self._demuxed, None)) is not None:
                if not packet.size:
                    continue  # as in the index
                self._cursor += 1
                if self._cursor > first:
                    yield self._cursor - 1, packet
        except av.error.FFmpegError:
            return  # the index ended here too, and counted it

    def _open(self) -> None:
        self._container, self._stream = open_video(self._descriptor)
        self._stream.thread_count = 1
        self._stream.codec_context.options = DECODER_OPTIONS
        self._demuxed = self._container.demux(self._stream)
        self._cursor = 0

    def _describe(self) -> VideoInfo:
        for _, packet in self._packets(0, len(self.index.pts)):
            for frame in self._feed(packet):
                return describe(self._container, self._stream, frame)
        for frame in self._feed(None):
            return describe(self._container, self._stream, frame)
        raise CorruptMedia("No picture of the video can be decoded.")


class _Converter:
    """Frames to RGB through libavfilter: PyAV's own conversion differs from FFmpeg's by up to 115 of 255."""

    def __init__(self, info: VideoInfo, options: ExtractOptions) -> None:
        self._chain = filters.chain(info, options)
        self._time_base = info.time_base
        self._shape: tuple[object, ...] = ()
        self._graph = Graph()

    def __call__(self, frame: VideoFrame) -> Pixels:
        shape = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if shape != self._shape:
            self._shape, self._graph = shape, self._build(frame)
        self._graph.push(frame)
        picture = self._graph.pull()
        assert isinstance(picture, VideoFrame)
        plane = picture.planes[0]
        rows = np.frombuffer(memoryview(cast("Any", plane)), np.uint8).reshape(picture.height, plane.line_size)
        return rows[:, : picture.width * 3].reshape(picture.height, picture.width, 3)

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        node = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base or Fraction(1)
        )
        for name, arguments in self._chain:
            following = graph.add(name, **arguments)
            node.link_to(following)
            node = following
        node.link_to(graph.add("buffersink"))
        graph.configure()
        return graph
