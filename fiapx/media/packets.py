"""A video's packets by their ordinals in the index, read forward. Runs in the child."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import av
from av.packet import Packet
from av.video.stream import VideoStream

from fiapx.media.formats import DECODER_OPTIONS
from fiapx.media.model import NOT_SHOWN, Index
from fiapx.media.probe import decoder_of, open_video

_FAR: Final = 4 * 1024**2
"""Bytes between two groups of pictures from which on a jump costs less than reading on."""
_JUMPING: Final = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers that know where their keyframes lie; in the others a jump is a guess."""


class Packets:
    """One opening of the video at a time: what lies behind is read by opening it again."""

    def __init__(self, descriptor: int, threads: int = 1) -> None:
        """`threads` decode, each a frame of its own."""
        self.threads = threads
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self.cursor = 0
        """Ordinal of the packet that is read next."""
        self._open()
        self._jumps = self.container.format.name in _JUMPING

    def reopen(self) -> None:
        """Begin anew, also with the decoder. Raises what `open_video` raises."""
        self._open()
        gc.collect()  # the decoder before is part of a circle, and holds its pictures

    def _open(self) -> None:
        self.container, self.stream = open_video(self._descriptor)
        self.decoder = decoder_of(self.stream)
        self.decoder.thread_count = self.threads
        self.decoder.thread_type = "FRAME"
        self.decoder.options = DECODER_OPTIONS
        self._demuxed = self.container.demux(self.stream)
        self.cursor = 0

    def read(self, first: int, last: int, index: Index) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Packets `first` (a keyframe, if it is not the first of all) to `last`, with their ordinals."""
        if first < self.cursor:
            self.reopen()
        elif (first - self.cursor) * self._size > _FAR * len(index.pts):
            self._jump(first, index)
        with suppress(av.error.FFmpegError):  # the index ended here too, and counted it
            while self.cursor <= last and (packet := next(self._demuxed, None)) is not None:
                if not packet.size:
                    continue  # as in the index
                self.cursor += 1
                if self.cursor > first:
                    yield self.cursor - 1, packet

    def _jump(self, target: int, index: Index) -> None:
        """Read on from a packet that is proven, by its time, to lie at or before the target; or from where we are."""
        pts = index.pts[target]
        if not self._jumps or pts == NOT_SHOWN:
            return
        with suppress(av.error.FFmpegError):
            self.container.seek(pts, stream=self.stream)
            self._demuxed = self.container.demux(self.stream)
            packet = next(self._demuxed, None)
            if packet is not None and packet.size and packet.pts is not None:
                found = (ordinal for ordinal in range(target, -1, -1) if index.pts[ordinal] == packet.pts)
                if (cursor := next(found, None)) is not None:
                    self.cursor = cursor
                    self._demuxed = _with(packet, self._demuxed)
                    return
        self._jumps = False
        self.reopen()


def _with(packet: Packet[VideoStream], following: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
    yield packet
    yield from following
