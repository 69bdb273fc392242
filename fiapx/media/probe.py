"""Open a stranger's video with PyAV, and learn what it says of itself. Runs in the decoder child."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import av
import av.subtitles.codeccontext  # PyAV imports these once a video has subtitles, which is too late in the child
import av.subtitles.stream
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fiapx.core.errors import CorruptMedia, NoVideoStream, UnsupportedCodec, UnsupportedFormat
from fiapx.media import filters
from fiapx.media.colours import PRIMARIES, TRANSFERS, UNKNOWN
from fiapx.media.formats import ALPHA_DECODERS, DECODERS, FORMATS, JOINABLE, MAX_STREAMS, PROTOCOLS, looks_like_video
from fiapx.media.model import VideoInfo

_BUFFER = 1 << 20
_HEAD = 256
_JPEG_RANGE = 2
_MAX_LUMINANCE = 72
"""Bytes in front of the mastering display's greatest luminance: eight chromaticities and the least luminance."""


class DescriptorFile:
    """Reads a shared descriptor at a position of its own, since processes that inherit one share its offset."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._position = 0

    def read(self, size: int) -> bytes:
        data = os.pread(self._descriptor, size, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position


def open_video(descriptor: int) -> tuple[InputContainer, VideoStream]:
    """The container and its first video stream that is no cover art.

    Raises UnsupportedFormat, CorruptMedia, NoVideoStream or UnsupportedCodec.
    """
    container = open_container(descriptor)
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return container, _checked(stream)
    raise NoVideoStream


def open_container(descriptor: int) -> InputContainer:
    """Raises UnsupportedFormat or CorruptMedia."""
    head = os.pread(descriptor, _HEAD, 0)
    if not head:
        raise UnsupportedFormat("The file is empty.")
    options = {"format_whitelist": FORMATS, "protocol_whitelist": PROTOCOLS, "max_streams": str(MAX_STREAMS)}
    try:
        container: InputContainer = av.open(
            cast("Any", DescriptorFile(descriptor)), options=options, buffer_size=_BUFFER
        )
    except (av.error.FFmpegError, ValueError):
        raise (CorruptMedia if looks_like_video(head) else UnsupportedFormat) from None
    return container


def _checked(stream: VideoStream) -> VideoStream:
    context = cast("Any", stream).codec_context  # None where FFmpeg has no decoder
    name = context.codec.name if context is not None else "unknown"
    if name not in DECODERS:
        raise UnsupportedCodec(f"The video codec {name!r} is not supported.")
    return stream


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The stream's own, unless that would drop its alpha, which Matroska keeps beside the pictures."""
    context = stream.codec_context
    name = ALPHA_DECODERS.get(context.codec.name) if stream.metadata.get("alpha_mode") == "1" else None
    if name is None:
        return context
    decoder = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    decoder.extradata = context.extradata
    return decoder


def describe(container: InputContainer, stream: VideoStream, frame: VideoFrame) -> VideoInfo:
    """All that the engine needs to know; `frame` is the first one that could be decoded."""
    time_base = cast("Fraction", stream.time_base)
    start_pts = _rescale(container.start_time or 0, Fraction(1, av.time_base), time_base)
    turn, rotation = filters.orientation(_display_matrix(frame))
    return VideoInfo(
        format=container.format.name,
        codec=stream.codec_context.codec.name,
        width=frame.width,
        height=frame.height,
        pixel_format=frame.format.name,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        **_coding(frame),
        orientation=turn,
        rotation=rotation,
        time_base=time_base,
        start_pts=start_pts,
        declared_duration=_declared_duration(container),
        primaries=PRIMARIES.get(int(frame.color_primaries), UNKNOWN),
        transfer=TRANSFERS.get(int(frame.color_trc), UNKNOWN),
        peak=_peak(frame),
        own_start=_own_start(container, stream, start_pts),
        declared_frames=stream.frames if container.format.name == "avi" else 0,
    )


def as_coded(info: VideoInfo, frame: VideoFrame) -> VideoInfo:
    """The same for a later frame, whose samples may mean other colours: a stream may change in the middle."""
    return replace(info, **_coding(frame))


def _coding(frame: VideoFrame) -> dict[str, Any]:
    return {
        "matrix": filters.matrix(int(frame.colorspace), frame.height),
        "full_range": frame.color_range == _JPEG_RANGE or frame.format.name.startswith("yuvj"),
    }


def _own_start(container: InputContainer, stream: VideoStream, start_pts: int) -> int:
    """Of containers that may start their clock anew, FFmpeg's command line counts time from the first packet of those
    streams that it reads: here, of the video alone. Of all others, from the container's start."""
    if container.format.name not in JOINABLE or stream.start_time is None:
        return 0
    return min(start_pts - stream.start_time, 0)


def _declared_duration(container: InputContainer) -> float | None:
    """Seconds. Where FFmpeg adds the first frame's time to what a stream declares, the stream is right."""
    if not container.duration:
        return None
    streams = [
        stream.duration * stream.time_base for stream in container.streams if stream.duration and stream.time_base
    ]
    return float(min(container.duration / Fraction(av.time_base), max(streams, default=Fraction(2**63))))


def _peak(frame: VideoFrame) -> float:
    """The brightest light in cd/m², where the video says so, else 0: of all pictures, else of the mastering display.

    The layouts are FFmpeg's AVContentLightMetadata and AVMasteringDisplayMetadata.
    """
    if (light := frame.side_data.get("CONTENT_LIGHT_LEVEL")) is not None:
        (brightest,) = struct.unpack_from("=I", bytes(cast("Any", light)))
        if brightest:
            return float(brightest)
    if (display := frame.side_data.get("MASTERING_DISPLAY_METADATA")) is not None:
        numerator, denominator, _, known = struct.unpack_from("=4i", bytes(cast("Any", display)), _MAX_LUMINANCE)
        if known and denominator > 0 and numerator > 0:
            return float(numerator / denominator)
    return 0


def _display_matrix(frame: VideoFrame) -> bytes | None:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return bytes(cast("Any", matrix)) if matrix is not None else None


def _rescale(value: int, source: Fraction, target: Fraction) -> int:
    """Round half away from zero, as av_rescale_q does when FFmpeg shifts timestamps to the container's start."""
    exact = value * source / target
    return int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
