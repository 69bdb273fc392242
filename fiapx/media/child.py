"""``python -m fiapx.media.child PARENT``: a decoder child of the process PARENT.

It imports all it will need, gives up files and network, and only then gets a video: a byte that carries the video's
descriptor comes through stdin, which is a socket. A JSON line follows, ``{"style", "max_pixels", "cpu_seconds",
"indexed"}``. If the video is `indexed` already, its index follows; otherwise the child finds out and tells it.
Then each line asks for a segment, ``{"kind", "threads", "runs": [[first, last, [pts, …]], …]}``. Messages go to stdout.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import av.logging

from fiapx.core.errors import FiapxError
from fiapx.media import filters, sandbox
from fiapx.media.decode import VideoDecoder
from fiapx.media.draw import Drawing
from fiapx.media.graph import Renderer
from fiapx.media.ipc import read_index, read_message, write_frame, write_index, write_message
from fiapx.media.model import EncodedFrame, Run
from fiapx.media.probe import as_coded
from fiapx.media.segments import Kind
from fiapx.media.style import Style

_HELD: Final = 64 * 1024**2
"""Bytes of images that wait for one that did not come out in its turn; with more, it is taken for lost."""


def main(parent: int) -> None:
    """Serve one video until stdin closes, or the process `parent` ends."""
    sandbox.die_with_parent(parent)
    av.logging.set_level(None)
    sandbox.give_up_files()
    gc.freeze()  # what was imported need not be looked through again
    stdin = socket.socket(fileno=0)
    _, descriptors, *_ = socket.recv_fds(stdin, 1, 1)
    if descriptors:
        with stdin.makefile("rb") as requests:
            _serve(descriptors[0], requests, sys.stdout.buffer)


def _serve(descriptor: int, requests: BinaryIO, out: BinaryIO) -> None:
    job = json.loads(requests.readline())
    sandbox.limit_resources(job["cpu_seconds"])
    try:
        style = Style(**job["style"])
        known = read_message(requests) if job["indexed"] else None
        decoder = VideoDecoder(descriptor, job["max_pixels"], read_index(known) if known else None)
        filters.check_pixels(*filters.picture_size(decoder.info, style), job["max_pixels"])
        if known is None:
            write_index(out, decoder.info, decoder.index)
        studio = Studio(decoder, style)
        for line in requests:
            _send_segment(out, studio, json.loads(line))
    except FiapxError as error:
        write_message(out, {"type": "error", "code": error.code, "message": error.message})
    except MemoryError:
        write_message(out, {"type": "error", "code": "limit_exceeded", "message": "The video needs too much memory."})


class Studio:
    """A decoder, and what to make of its frames."""

    def __init__(self, decoder: VideoDecoder, style: Style) -> None:
        self.decoder = decoder
        self._style = style
        self._drawings: dict[Kind, tuple[Renderer, Drawing]] = {}

    def frames(self, run: Run, kind: Kind) -> Iterator[EncodedFrame]:
        """The run's frames, finished, as they come out."""
        if kind not in self._drawings:
            info, style = self.decoder.info, self._style
            renderer = Renderer(lambda frame: Drawing(kind, as_coded(info, frame), style).rendering)
            self._drawings[kind] = renderer, Drawing(kind, info, style)
        render, drawing = self._drawings[kind]
        for pts, frame in self.decoder.frames(run):
            yield drawing.finish(pts, render(frame))
            del frame  # its memory is for one that is decoded now


def _send_segment(out: BinaryIO, studio: Studio, request: dict[str, Any]) -> None:
    studio.decoder.use(request["threads"])
    for first, last, wanted in request["runs"]:
        for frame in in_order(studio.frames(Run(first, last, tuple(wanted)), request["kind"]), wanted):
            write_frame(out, frame)
            del frame  # it may be large, and the next one is made now
    refused = studio.decoder.refused
    write_message(out, {"type": "done"}, array("q", sorted(refused)).tobytes())
    refused.clear()


def in_order(frames: Iterable[EncodedFrame], wanted: Iterable[int]) -> Iterator[EncodedFrame]:
    """The frames in order of pts. One that comes out late, after a second try, is waited for."""
    waiting = deque(wanted)
    held: dict[int, EncodedFrame] = {}
    size = 0
    for frame in frames:
        if not waiting or frame.pts < waiting[0]:
            continue  # taken for lost
        held[frame.pts] = frame
        size += len(frame.data)
        del frame
        while held and (waiting[0] in held or size > _HELD):
            if following := held.pop(waiting.popleft(), None):
                size -= len(following.data)
                yield following
                del following
    yield from (held[pts] for pts in sorted(held))


if __name__ == "__main__":
    main(int(sys.argv[1]))
