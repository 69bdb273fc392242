"""`fiapx probe`: what there is to know of videos before anything is extracted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.inputs import expand, opened, source_name
from fiapx.cli.signals import cancel_on_signals
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import Cancelled
from fiapx.core.text import size, visible

_MUCH: Final = 1.05
"""By how much the longest interval must exceed the mean to be worth telling."""

if TYPE_CHECKING:
    from fiapx.media.contents import Stream
    from fiapx.media.inspect import Inspection, Video


def probe(ctx: typer.Context, videos: flags.Sources, as_json: flags.AsJson = False) -> None:
    """Show what videos hold, and what may be wrong with them.

    Nothing is decoded but the first picture. A video of which no frame can be extracted is an error.

    Example: fiapx probe holiday.mp4
    """
    from fiapx.cli.config import engine_settings
    from fiapx.media.inspect import inspect
    from fiapx.media.model import Source

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    limits, _ = engine_settings()
    batch = Batch(terminal)
    with cancel_on_signals() as cancelled:
        for number, video in enumerate(expand(videos).stems):

            def work(result: dict[str, Any], video: str = video, first: bool = number == 0) -> None:
                if cancelled.is_set():
                    raise Cancelled
                with opened(video, terminal, cancelled) as file:
                    found = inspect(Source(source_name(video), file), limits, cancelled)
                result.update(found.as_dict())
                if not first:
                    terminal.say("")
                for name, value in _lines(video, found):
                    terminal.say(f"{name + ':':<11} {visible(value)}")
                terminal.flush()  # before the error that may follow on the other stream
                if found.error:
                    raise found.error

            batch.attempt(video, work)
    batch.finish()


def _lines(name: str, found: Inspection) -> Iterator[tuple[str, str]]:
    contents, video = found.contents, found.video
    yield "file", f"{name}, {size(found.size)}"
    rate = f", {found.size * 8 / contents.duration / 1000:,.0f} kb/s" if contents.duration else ""
    lasts = f", {_seconds(contents.duration)}" if contents.duration else ""
    yield "container", f"{contents.description or contents.format}{lasts}{rate}"
    kinds = Counter(stream.kind for stream in contents.streams)
    for stream in contents.streams:
        yield stream.kind, ", ".join(_stream(stream, alone=kinds[stream.kind] == 1))
        if video and stream is video.stream:
            yield "picture", ", ".join(_picture(video))
            yield "frames", ", ".join(_timing(video))
            yield "keyframes", ", ".join(_keyframes(video))
    for problem in video.problems if video else ():
        yield "problem", f"{problem.message} ({problem.code})"


def _stream(stream: Stream, *, alone: bool) -> Iterator[str]:
    yield f"{stream.codec} ({stream.profile})" if stream.profile else stream.codec
    if stream.width and stream.height:
        yield f"{stream.width}x{stream.height}"
    if stream.sample_rate:
        yield f"{stream.sample_rate} Hz"
    yield from (word for word in (stream.channels, stream.language) if word)
    marks = {"cover art": stream.cover, "forced": stream.forced, "default": stream.default and not alone}
    yield from (word for word, holds in marks.items() if holds)


def _picture(video: Video) -> Iterator[str]:
    info, stream, (width, height) = video.info, video.stream, video.picture_size
    if (width, height) != (info.width, info.height):
        yield f"{width}x{height}"
    if info.rotation:
        yield f"turned by {info.rotation}°"
    if info.sample_aspect != 1:
        yield f"pixels {info.sample_aspect.numerator}:{info.sample_aspect.denominator}"
    yield info.pixel_format
    if stream.bit_depth:
        yield f"{stream.bit_depth} bits"
    if info.pixel_format.startswith("yuv"):
        yield f"{info.matrix}, {'full' if info.full_range else 'limited'} range"
    if video.hdr:
        yield f"HDR ({video.hdr})"
    if stream.interlaced:
        yield "interlaced"


def _timing(video: Video) -> Iterator[str]:
    times = video.timing
    yield str(times.frames)
    yield f"{_seconds(times.start)} to {_seconds(times.end)}" if times.start > 0 else _seconds(times.end)
    if times.rate is None:
        return
    if times.variable is None:
        yield f"{_rate(times.rate)} by the header"
    elif times.variable:
        yield f"{_rate(times.rate)} on average, {times.shortest * 1000:.4g} to {times.longest * 1000:.4g} ms apart"
    else:
        yield f"{_rate(times.rate)}, constant"


def _keyframes(video: Video) -> Iterator[str]:
    keys = video.keyframes
    yield str(keys.count)
    if keys.count == video.timing.frames:
        yield "each frame"
    elif keys.count > 1:
        yield f"every {_seconds(keys.mean)}"
        if keys.longest > keys.mean * _MUCH:
            yield f"{_seconds(keys.longest)} at most"
    if keys.open_gop:
        yield "open groups of pictures"


def _rate(rate: Fraction) -> str:
    return f"{float(rate):.5g} fps"


def _seconds(seconds: float) -> str:
    """``0.04 s``, ``12.5 s``, ``2:30 min``, ``1:02:03 h``."""
    if seconds < 90:
        return f"{seconds:.4g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
