"""Messages between the parent and its decoder child: a JSON head and a binary payload, length-prefixed."""

from __future__ import annotations

import json
import math
import struct
from array import array
from typing import Any, BinaryIO, Final, NamedTuple

from fiapx.media.model import MAX_NUMBER, THUMBNAIL, EncodedFrame, Index, Look, VideoInfo, tile_size

_LENGTHS: Final = struct.Struct(">II")
_MAX_HEAD: Final = 64 * 1024
MAX_PAYLOAD: Final = 512 * 1024**2
"""Bytes; more than any image within `Limits.max_pixels` needs."""


class Message(NamedTuple):
    head: dict[str, Any]
    payload: bytes = b""


def write_message(stream: BinaryIO, head: dict[str, Any], payload: bytes = b"") -> None:
    """Write and flush one message."""
    text = json.dumps(head, separators=(",", ":")).encode()
    stream.write(_LENGTHS.pack(len(text), len(payload)))
    stream.write(text)
    stream.write(payload)
    stream.flush()


def read_message(stream: BinaryIO) -> Message | None:
    """The next message, or None at the stream's end. The writer is not trusted: raises ValueError for nonsense."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head_size, payload_size = _LENGTHS.unpack(lengths)
    if head_size > _MAX_HEAD or payload_size > MAX_PAYLOAD:
        raise ValueError("a message is too long")
    text, payload = stream.read(head_size), stream.read(payload_size)
    if len(text) < head_size or len(payload) < payload_size:
        return None
    return Message(dict(json.loads(text)), payload)


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
        "tile": len(frame.tile),
        "look": [look.dark, look.sharpness] if look else None,
    }
    write_message(stream, head, b"".join((look.thumbnail if look else b"", frame.tile, frame.data)))


def read_frame(message: Message) -> EncodedFrame:
    """What `write_frame` has told. Raises ValueError, TypeError or LookupError for nonsense."""
    head, payload, begin, look = message.head, message.payload, 0, None
    if head["look"] is not None:
        begin = math.prod(THUMBNAIL)
        dark, sharpness = head["look"]
        look = Look(float(dark), float(sharpness), payload[:begin])
        if not (0 <= look.dark <= 1 and 0 <= look.sharpness < math.inf):
            raise ValueError("a measure makes no sense")
    end = begin + int(head["tile"])
    frame = EncodedFrame(
        int(head["pts"]), int(head["width"]), int(head["height"]), payload[end:], look, payload[begin:end]
    )
    tile = math.prod(tile_size(frame.width, frame.height)) * 3
    if not begin <= end < len(payload) or len(frame.tile) not in (0, tile) or min(frame.width, frame.height) < 1:
        raise ValueError("a frame is incomplete")
    return frame
