"""``python -m fiapx.media.prober PARENT DESCRIPTOR JOB``: a child that looks at a video, without decoding more than its
first picture.

PARENT is the process id of who started it. JOB is JSON: ``{"max_pixels", "cpu_seconds"}``. Messages go to stdout: what
the container holds, then the index, or the error that there is none. As `fiapx.media.child`, it gives up files and
network before it reads a byte.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import av
import av.logging
from av.container import InputContainer
from av.stream import Disposition

from fiapx.core.errors import FiapxError
from fiapx.media import sandbox
from fiapx.media.colours import PRIMARIES, TRANSFERS
from fiapx.media.contents import Contents, Stream
from fiapx.media.decode import VideoDecoder
from fiapx.media.ipc import write_index, write_message
from fiapx.media.probe import open_container

_KINDS: Final = frozenset({"video", "audio", "subtitle", "attachment"})
_NAME: Final = 200
_PROGRESSIVE: Final = 1


def main() -> None:
    """Look, tell, and end."""
    parent, descriptor, job = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    sandbox.die_with_parent(parent)
    sandbox.limit_resources(job["cpu_seconds"])
    av.logging.set_level(None)
    sandbox.give_up_files()
    out = sys.stdout.buffer
    try:
        write_message(out, {"type": "contents", "contents": contents(open_container(descriptor)).to_json()})
        decoder = VideoDecoder(descriptor, job["max_pixels"])
        write_index(out, decoder.info, decoder.index)
    except FiapxError as error:
        write_message(out, {"type": "error", "code": error.code, "message": error.message})
    except MemoryError:
        write_message(out, {"type": "error", "code": "limit_exceeded", "message": "The video needs too much memory."})


def contents(container: InputContainer) -> Contents:
    """What the container and its codecs' headers say."""
    bare = container.format.name == "mpegvideo"  # its duration would be guessed from a bit rate
    return Contents(
        format=container.format.name[:_NAME],
        description=container.format.long_name[:_NAME],
        duration=container.duration / av.time_base if container.duration and not bare else None,
        streams=tuple(_stream(stream) for stream in container.streams),
    )


def _stream(stream: Any) -> Stream:
    context = stream.codec_context  # None where FFmpeg has no decoder
    common = {
        "index": stream.index,
        "kind": stream.type if stream.type in _KINDS else "data",
        "codec": context.codec.canonical_name if context is not None else "unknown",
        "profile": context.profile[:_NAME] if context is not None and context.profile else None,
        "language": language[:_NAME] if (language := stream.language) and language != "und" else None,
        "default": bool(stream.disposition & Disposition.default),
        "forced": bool(stream.disposition & Disposition.forced),
        "cover": bool(stream.disposition & Disposition.attached_pic),
        "bit_rate": (context.bit_rate or None) if context is not None else None,
    }
    if context is not None and stream.type == "video":
        return Stream(**common, **_video(context), rate=stream.average_rate or None)
    if context is not None and stream.type == "audio":
        return Stream(**common, sample_rate=context.sample_rate, channels=context.layout.name[:_NAME])
    return Stream(**common)


def _video(context: Any) -> dict[str, Any]:
    order = int(context.field_order)
    return {
        "width": context.width,
        "height": context.height,
        "pixel_format": context.pix_fmt,
        "bit_depth": max((part.bits for part in context.format.components), default=None) if context.format else None,
        "primaries": PRIMARIES.get(int(context.color_primaries)),
        "transfer": TRANSFERS.get(int(context.color_trc)),
        "interlaced": order > _PROGRESSIVE if order else None,
    }


if __name__ == "__main__":
    main()
