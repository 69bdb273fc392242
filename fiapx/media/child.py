"""``python -m fiapx.media.child PARENT DESCRIPTOR JOB``: the decoder child.

Requests come on stdin, messages go to stdout. PARENT is the process id of who started it.

It imports all it will need, gives up files and network, and only then reads a byte of the video. JOB is JSON:
``{"options", "max_pixels", "cpu_seconds"}``. Requests, one JSON line each: ``{"runs": [[first, last, [pts, …]], …]}``.
"""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

import av.logging
import av.subtitles.stream  # PyAV imports it at the first open, which is too late

from fiapx.core.errors import FiapxError
from fiapx.core.options import ExtractOptions
from fiapx.media import sandbox
from fiapx.media.decode import VideoDecoder
from fiapx.media.encode import encode
from fiapx.media.ipc import write_message
from fiapx.media.model import EncodedFrame, Run


def main() -> None:
    """Serve one video until stdin closes."""
    parent, descriptor, job = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    sandbox.die_with_parent(parent)
    sandbox.limit_resources(job["cpu_seconds"])
    av.logging.set_level(None)
    sandbox.give_up_files()
    out = sys.stdout.buffer
    try:
        options = ExtractOptions.model_validate(job["options"])
        decoder = VideoDecoder(descriptor, options, job["max_pixels"])
        _send_index(out, decoder)
        for line in sys.stdin.buffer:
            for first, last, wanted in json.loads(line)["runs"]:
                _send_frames(out, decoder, Run(first, last, tuple(wanted)), options)
            write_message(out, {"type": "done", "errors": decoder.errors})
    except FiapxError as error:
        write_message(out, {"type": "error", "code": error.code, "message": error.message})
    except MemoryError:
        write_message(out, {"type": "error", "code": "limit_exceeded", "message": "The video needs too much memory."})


def _send_index(out: BinaryIO, decoder: VideoDecoder) -> None:
    index = decoder.index
    head: dict[str, Any] = {
        "type": "index",
        "info": decoder.info.to_json(),
        "length": len(index.pts),
        "packets": index.packets,
        "end_pts": index.end_pts,
        "reliable": index.reliable,
        "streams_end": index.streams_end,
        "damaged": index.damaged,
    }
    write_message(out, head, index.pts.tobytes() + index.keyframes)


def _send_frames(out: BinaryIO, decoder: VideoDecoder, run: Run, options: ExtractOptions) -> None:
    """Send the run's frames in order of pts. One that came out late, after a second try, is waited for."""
    waiting = list(run.wanted)
    held: dict[int, EncodedFrame] = {}
    for pts, picture in decoder.frames(run):
        held[pts] = EncodedFrame(pts, picture.width, picture.height, encode(picture, options))
        while waiting and waiting[0] in held:
            _send(out, held.pop(waiting.pop(0)))
    for pts in sorted(held):
        _send(out, held[pts])


def _send(out: BinaryIO, frame: EncodedFrame) -> None:
    head = {"type": "frame", "pts": frame.pts, "width": frame.width, "height": frame.height}
    write_message(out, head, frame.data)


if __name__ == "__main__":
    main()
