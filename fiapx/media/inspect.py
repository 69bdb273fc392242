"""Look at a video without extracting anything: what it holds, when its frames are shown, what may be wrong with it."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from typing import Any

from fiapx.core.errors import FiapxError, NoFrames
from fiapx.media import diagnosis, filters
from fiapx.media.colours import HDR
from fiapx.media.contents import Contents, Stream
from fiapx.media.decoder import child_error, sense
from fiapx.media.ipc import Message, read_index, read_message
from fiapx.media.model import Index, Limits, MediaWarning, Source, VideoInfo
from fiapx.media.process import Supervised, Watch, spawn
from fiapx.media.style import Style
from fiapx.media.timing import Keyframes, Timing, keyframes, timing


@dataclass(frozen=True)
class Video:
    """The stream that frames are taken from."""

    stream: Stream
    info: VideoInfo
    timing: Timing
    keyframes: Keyframes
    problems: tuple[MediaWarning, ...]

    @property
    def hdr(self) -> str | None:
        """``PQ`` or ``HLG``; None for everything else."""
        return HDR.get(self.stream.transfer or "")

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height in pixels: upright, and square."""
        return filters.picture_size(self.info, Style())


@dataclass(frozen=True)
class Inspection:
    """What there is to say of a file. Without a `video` no frame can be extracted, and `error` says why."""

    size: int
    """Bytes."""
    contents: Contents
    video: Video | None
    error: FiapxError | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without the error."""
        container = {"format": self.contents.format, "description": self.contents.description}
        document: dict[str, Any] = {
            "bytes": self.size,
            "container": container | {"duration": self.contents.duration},
            "streams": self.contents.to_json()["streams"],
        }
        return document | (_described(self.video) if self.video else {})


def _described(video: Video) -> dict[str, Any]:
    info, (width, height) = video.info, video.picture_size
    return {
        "video": {
            "stream": video.stream.index,
            "width": info.width,
            "height": info.height,
            "sample_aspect_ratio": str(info.sample_aspect),
            "rotation": info.rotation,
            "picture_width": width,
            "picture_height": height,
            "pixel_format": info.pixel_format,
            "matrix": info.matrix,
            "range": "full" if info.full_range else "limited",
            "hdr": video.hdr,
        },
        "timing": asdict(video.timing) | {"rate": str(video.timing.rate) if video.timing.rate else None},
        "keyframes": asdict(video.keyframes),
        "problems": [problem.as_dict() for problem in video.problems],
    }


def inspect(source: Source, limits: Limits = Limits(), cancelled: threading.Event | None = None) -> Inspection:
    """Read the source's headers and all its packets, and decode its first picture, in a child of its own.

    Raises what keeps the file from being opened at all (UnsupportedFormat, CorruptMedia, LimitExceeded), Cancelled, and
    DecoderFailed.
    """
    descriptor, watch = source.file.fileno(), Watch(limits.timeout, cancelled)
    job = json.dumps({"max_pixels": limits.max_pixels, "cpu_seconds": limits.timeout})
    process = spawn("fiapx.media.prober", [str(descriptor), job], pass_fds=(descriptor,))
    with Supervised(process, watch) as child:
        message = _next(child)
        with sense():
            contents = Contents.from_json(message.head["contents"])
        video, error = None, None
        try:
            message = _next(child)
            with sense():
                info, index = read_index(message)
                filters.check_info(info)
                video = _video(contents, info, index, limits)
        except FiapxError as failure:
            watch.check()
            error = failure
    return Inspection(os.fstat(descriptor).st_size, contents, video, error)


def _video(contents: Contents, info: VideoInfo, index: Index, limits: Limits) -> Video:
    if index.reliable and not index.shown():
        raise NoFrames
    stream = contents.videos[0]
    times, keys = timing(info, index, stream.rate), keyframes(info, index)
    problems = diagnosis.of_source(info, index)
    problems += diagnosis.of_extraction(info, index, contents, times, keys, limits.max_pixels)
    return Video(stream, info, times, keys, tuple(problems))


def _next(child: Supervised) -> Message:
    with sense():
        message = read_message(child.stdout)
    if message is None:
        raise child.failure()
    if message.head.get("type") == "error":
        raise child_error(message.head)
    return message
