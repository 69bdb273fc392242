"""Messages between the parent and its decoder child: a JSON head, a binary payload, and what is told beside it, each
with its length before all."""

from __future__ import annotations

import json
import math
import struct
from array import array
from typing import Any, BinaryIO, Final, NamedTuple

from fiapx.media.model import MAX_NUMBER, THUMBNAIL, EncodedFrame, Index, Look, VideoInfo, tile_size

_LENGTHS: Final = struct.Struct(">III")
_MAX_HEAD: Final = 64 * 1024
_MAX_ASIDE: Final = 64 * 1024
MAX_PAYLOAD: Final = 512 * 1024**2
"""Bytes; more than any image within `Limits.max_pixels` needs."""


class Message(NamedTuple):
    head: dict[str, Any]
    payload: bytes = b""
    aside: bytes = b""
    """Little, so that the payload is all of one thing: cutting one of 50 MB takes another 50 MB."""


def write_message(stream: BinaryIO, head: dict[str, Any], payload: bytes = b"", aside: bytes = b"") -> None:
    """Write and flush one message."""
    text = json.dumps(head, separators=(",", ":")).encode()
    stream.write(_LENGTHS.pack(len(text), len(payload), len(aside)))
    stream.writelines((text, payload, aside))
    stream.flush()


def read_message(stream: BinaryIO) -> Message | None:
    """The next message, or None at the stream's end. The writer is not trusted: raises ValueError for nonsense."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    sizes = _LENGTHS.unpack(lengths)
    if any(size > most for size, most in zip(sizes, (_MAX_HEAD, MAX_PAYLOAD, _MAX_ASIDE), strict=True)):
        raise ValueError("a message is too long")
    text, payload, aside = parts = [stream.read(size) for size in sizes]
    if any(len(part) < size for part, size in zip(parts, sizes, strict=True)):
        return None
    return Message(dict(json.loads(text)), payload, aside)


def write_index(stream: BinaryIO, info: VideoInfo, index: Index) -> None:
    """Tell what a video is: the child that has read it tells the parent, and the parent the other children."""
    head = {
        "type": "index",
        "info": info.to_json(),
        "length": len(index.pts),
        "end_pts": index.end_pts,
        "reliable": index.reliable,
        "packets": index.packets,
        "streams_end": index.streams_end,
        "damaged": index.damaged,
    }
    write_message(stream, head, index.pts.tobytes() + index.keyframes)


def read_index(message: Message) -> tuple[VideoInfo, Index]:
    """What `write_index` has told. Raises ValueError, TypeError, LookupError or ArithmeticError for nonsense."""
    head, pts = message.head, array("q")
    keyframes_at = int(head["length"]) * pts.itemsize
    pts.frombytes(message.payload[:keyframes_at])
    if len(message.payload) != keyframes_at + len(pts):
        raise ValueError("the index is incomplete")
    index = Index(
        pts=pts,
        keyframes=message.payload[keyframes_at:],
        end_pts=int(head["end_pts"]),
        reliable=bool(head["reliable"]),
        packets=int(head["packets"]),
        streams_end=float(head["streams_end"]),
        damaged=int(head["damaged"]),
    )
    numbers = (index.end_pts, index.packets, index.streams_end, index.damaged)
    if not all(abs(number) < MAX_NUMBER for number in numbers):
        raise ValueError("the index makes no sense")
    return VideoInfo.from_json(head["info"]), index


def write_frame(stream: BinaryIO, frame: EncodedFrame) -> None:
    """Tell a finished frame."""
    look = frame.look
    head = {
        "type": "frame",
        "pts": frame.pts,
        "width": frame.width,
        "height": frame.height,
        "look": [look.dark, look.sharpness] if look else None,
    }
    write_message(stream, head, frame.data, (look.thumbnail if look else b"") + frame.tile)


def read_frame(message: Message) -> EncodedFrame:
    """What `write_frame` has told. Raises ValueError, TypeError or LookupError for nonsense."""
    head, tile, look = message.head, message.aside, None
    if head["look"] is not None:
        size = math.prod(THUMBNAIL)
        thumbnail, tile = tile[:size], tile[size:]
        dark, sharpness = head["look"]
        look = Look(float(dark), float(sharpness), thumbnail)
        if len(thumbnail) < size or not (0 <= look.dark <= 1 and 0 <= look.sharpness < math.inf):
            raise ValueError("a measure makes no sense")
    frame = EncodedFrame(int(head["pts"]), int(head["width"]), int(head["height"]), message.payload, look, tile)
    if min(frame.width, frame.height) < 1 or not frame.data:
        raise ValueError("a frame is incomplete")
    if len(tile) not in (0, math.prod(tile_size(frame.width, frame.height)) * 3):
        raise ValueError("a tile is incomplete")
    return frame
