"""``python -m fiapx.media.child PARENT``: a decoder child of the process PARENT.

It imports all it will need, gives up files and network, and only then gets a video: a byte that carries the video's
descriptor comes through stdin, which is a socket. A JSON line follows, ``{"options", "max_pixels", "cpu_seconds",
"indexed"}``. If the video is `indexed` already, its index follows; otherwise the child finds out and tells it.
Then each line asks for a segment, ``{"kind", "runs": [[first, last, [pts, …]], …]}``. Messages go to stdout.
"""

from __future__ import annotations

import json
import socket
import sys
from array import array
from collections import deque
from typing import Any, BinaryIO, Final

import av.logging

from fiapx.core.errors import FiapxError
from fiapx.core.options import ExtractOptions
from fiapx.media import sandbox
from fiapx.media.decode import VideoDecoder
from fiapx.media.encode import encode
from fiapx.media.ipc import read_index, read_message, write_index, write_message
from fiapx.media.model import EncodedFrame, Run

_HELD: Final = 64 * 1024**2
"""Bytes of images that wait for one that did not come out in its turn; with more, it is taken for lost."""


def main() -> None:
    """Serve one video until stdin closes."""
    sandbox.die_with_parent(int(sys.argv[1]))
    av.logging.set_level(None)
    sandbox.give_up_files()
    stdin = socket.socket(fileno=0)
    _, descriptors, *_ = socket.recv_fds(stdin, 1, 1)
    if descriptors:
        with stdin.makefile("rb") as requests:
            _serve(descriptors[0], requests, sys.stdout.buffer)


def _serve(descriptor: int, requests: BinaryIO, out: BinaryIO) -> None:
    job = json.loads(requests.readline())
    sandbox.limit_resources(job["cpu_seconds"])
    try:
        options = ExtractOptions.model_validate(job["options"])
        known = read_message(requests) if job["indexed"] else None
        decoder = VideoDecoder(descriptor, options, job["max_pixels"], read_index(known) if known else None)
        if known is None:
            write_index(out, decoder.info, decoder.index)
        for line in requests:
            _send_segment(out, decoder, json.loads(line), options)
    except FiapxError as error:
        write_message(out, {"type": "error", "code": error.code, "message": error.message})
    except MemoryError:
        write_message(out, {"type": "error", "code": "limit_exceeded", "message": "The video needs too much memory."})


def _send_segment(out: BinaryIO, decoder: VideoDecoder, request: dict[str, Any], options: ExtractOptions) -> None:
    for first, last, wanted in request["runs"]:
        _send_frames(out, decoder, Run(first, last, tuple(wanted)), options)
    write_message(out, {"type": "done"}, array("q", sorted(decoder.refused)).tobytes())
    decoder.refused.clear()


def _send_frames(out: BinaryIO, decoder: VideoDecoder, run: Run, options: ExtractOptions) -> None:
    """Send the run's frames in order of pts. One that comes out late, after a second try, is waited for."""
    waiting = deque(run.wanted)
    held: dict[int, EncodedFrame] = {}
    size = 0
    for pts, picture in decoder.frames(run):
        if not waiting or pts < waiting[0]:
            continue  # taken for lost
        held[pts] = frame = EncodedFrame(pts, picture.width, picture.height, encode(picture, options))
        size += len(frame.data)
        while held and (waiting[0] in held or size > _HELD):
            if following := held.pop(waiting.popleft(), None):
                size -= len(following.data)
                _send(out, following)
    for pts in sorted(held):
        _send(out, held[pts])


def _send(out: BinaryIO, frame: EncodedFrame) -> None:
    head = {"type": "frame", "pts": frame.pts, "width": frame.width, "height": frame.height}
    write_message(out, head, frame.data)


if __name__ == "__main__":
    main()
