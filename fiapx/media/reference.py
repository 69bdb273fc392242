"""The reference engine: FFmpeg's own command line decodes everything from the start, and hands over what is wanted.

It shares the rule (`plan`) and the filters with the fast engine, and nothing of decoding, so it is a second witness
of every pixel, and the way out for streams that the fast engine cannot read.
"""

from __future__ import annotations

import errno
import heapq
import os
import queue
import re
import tempfile
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import ffmpeg

from fiapx.core.errors import CorruptMedia, DecoderFailed, NoSpace
from fiapx.media.ffmpeg import FFmpeg
from fiapx.media.formats import ALPHA_DECODERS, DECODER_OPTIONS, DECODERS, FORMATS, MAX_STREAMS, PROTOCOLS
from fiapx.media.model import EncodedFrame, Index, Limits, VideoInfo
from fiapx.media.process import Supervised, Watch, spawn
from fiapx.media.segments import Kind
from fiapx.media.style import Style

if TYPE_CHECKING:  # what they need is loaded where the engine is used
    from fiapx.media.picture import Picture
    from fiapx.media.render import Rendering

_SHOWN: Final = re.compile(r"\] n: *(\d+) pts: *(-?\d+) pts_time:\S+ +(?:duration: *(\d+) )?.* iskey:([01]) ")
_GLOBAL: Final = (
    "-nostdin",
    "-hide_banner",
    "-nostats",
    "-max_alloc",
    str(512 * 1024**2),
    "-filter_complex_threads",
    "1",
)
_THREADS: Final = 4
"""Decoding threads; one for large pictures, since more hold more of them."""
_REORDERED: Final = 8
"""Frames that are held back at most: FFmpeg gives them out of order where a container's times are wrong."""
_PATIENCE: Final = 30
"""Seconds until FFmpeg must have named a frame whose pixels have arrived already."""
_LEAF: Final = 4
_FILES_AS_OPTIONS: Final = (7, 0)
"""Since this version of FFmpeg, ``-/option FILE`` reads an option's value from a file."""


class Reference:
    """One video for FFmpeg's command line."""

    def __init__(
        self, binary: FFmpeg, file: BinaryIO, limits: Limits, watch: Watch, *, own_times: bool, large: bool
    ) -> None:
        """`own_times`: let FFmpeg mend the container's times as it does by itself; they count from
        `VideoInfo.own_start`. `large`: its pictures are."""
        self._binary = binary
        self._file = file
        self._limits = limits
        self._watch = watch
        self._own_times = own_times
        self._threads = 1 if large else _THREADS

    def index(self, demuxed: Index) -> Index:
        """The index as FFmpeg's decoder times the frames, for containers that store no usable times.

        Decodes the whole video. Raises CorruptMedia where no frame comes out.
        """
        graph = self._source().filter("showinfo", checksum=0)
        with self._run(ffmpeg.output(graph, "pipe:1", f="null", fps_mode="passthrough")) as (child, times):
            child.stdout.read()
            if child.join():
                raise child.failure()
        shown = list(times)
        if not shown:
            raise CorruptMedia("No picture of the video can be decoded.")
        pts = array("q", (frame.pts for frame in shown))
        end = pts[-1] + (shown[-1].duration or _last_length(demuxed))
        keyframes = bytes(frame.key for frame in shown)
        return replace(demuxed, pts=pts, keyframes=keyframes, end_pts=end, reliable=True)

    def frames(
        self, info: VideoInfo, style: Style, wanted: Sequence[int], kind: Kind = "image"
    ) -> Iterator[EncodedFrame]:
        """The frames with the wanted pts (ascending, unique), in order; those that cannot be decoded are left out.

        Of several frames with the same time, the last is the one that is shown.
        """
        held: EncodedFrame | None = None
        for frame in in_order(self._decoded(info, style, wanted, kind), wanted):
            if held is not None and held.pts != frame.pts:
                yield held
            held = frame
        if held is not None:
            yield held

    def _decoded(self, info: VideoInfo, style: Style, wanted: Sequence[int], kind: Kind) -> Iterator[EncodedFrame]:
        from fiapx.media.draw import Drawing

        graph = self._source(info).filter("select", _any_of(wanted)).filter("showinfo", checksum=0)
        drawing = Drawing(kind, info, style)
        how = drawing.rendering
        for name, arguments in how.filters:
            graph = graph.filter(name, **arguments)
        output = ffmpeg.output(graph, "pipe:1", f="rawvideo", pix_fmt=how.pixel_format, fps_mode="passthrough")
        with self._run(output) as (child, times):
            while (picture := _picture(child.stdout, how)) is not None:
                pts = times.next().pts
                frame = drawing.finish(pts, picture)
                del picture  # it may be large, and so may the next one
                yield frame
                del frame
            if child.join():
                raise child.failure()
            times.close()

    def _source(self, info: VideoInfo | None = None) -> Any:
        """The video's stream with every safeguard that FFmpeg has."""
        times = {} if self._own_times else {"copyts": None}
        alpha = info is not None and info.codec in ALPHA_DECODERS and info.pixel_format.startswith("yuva")
        decoder = {"vcodec": ALPHA_DECODERS[info.codec]} if info is not None and alpha else {}
        source = ffmpeg.input(
            f"file:/dev/fd/{self._file.fileno()}",
            format_whitelist=FORMATS,
            protocol_whitelist=PROTOCOLS,
            codec_whitelist=",".join(sorted(DECODERS)),
            max_streams=MAX_STREAMS,
            max_pixels=self._limits.max_pixels,
            threads=self._threads,
            noautorotate=None,
            **times,
            **decoder,
            **DECODER_OPTIONS,
        )["V:0"]
        # times that FFmpeg makes up may step back: the frame stays the next one to be shown
        return source.filter("setpts", "max(PREV_OUTPTS,PTS)") if self._own_times else source

    @contextmanager
    def _run(self, output: Any) -> Iterator[tuple[Supervised, _Times]]:
        """Start FFmpeg. The filter graph goes through a file, since a long list of times overflows an argument."""
        times = _Times()
        arguments = output.compile(cmd=[str(self._binary.path), *_GLOBAL])
        place = arguments.index("-filter_complex")
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)  # where opening /dev/fd/N duplicates N, as on macOS
        with _script(arguments[place + 1]) as script:
            new = self._binary.numbers >= _FILES_AS_OPTIONS
            option = "-/filter_complex" if new else "-filter_complex_script"
            arguments[place : place + 2] = [option, f"/dev/fd/{script.fileno()}"]
            limited = [str(self._limits.timeout * self._threads), *arguments]
            process = spawn("fiapx.media.launch", limited, pass_fds=(self._file.fileno(), script.fileno()))
            with Supervised(process, self._watch, on_line=times.take) as child:
                yield child, times


def _picture(raw: BinaryIO, how: Rendering) -> Picture | None:
    """The next picture; None at the end, of which a part may be left."""
    data = raw.read(how.frame_bytes)
    return how.from_bytes(data) if len(data) == how.frame_bytes else None


def in_order(frames: Iterable[EncodedFrame], wanted: Iterable[int]) -> Iterator[EncodedFrame]:
    """The frames in order of pts. While one is missing, up to `_REORDERED` are held back for it."""
    due = deque(wanted)
    held: list[tuple[int, int, EncodedFrame]] = []
    for number, frame in enumerate(frames):
        heapq.heappush(held, (frame.pts, number, frame))
        del frame
        while held and (not due or held[0][0] <= due[0] or len(held) > _REORDERED):
            pts, _, first = heapq.heappop(held)
            while due and due[0] <= pts:
                due.popleft()
            yield first
            del first
    yield from (frame for *_, frame in sorted(held))


@contextmanager
def _script(text: str) -> Iterator[BinaryIO]:
    """A file of this text, to be read from its start. Raises NoSpace."""
    with tempfile.TemporaryFile(buffering=0) as file:
        try:
            rest = memoryview(text.encode())
            while rest:  # a disk that runs full takes less than all
                rest = rest[file.write(rest) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(
                    "There is no space left for temporary files.", hint="Make room, or set TMPDIR."
                ) from error
            raise
        file.seek(0)
        yield file


class _Shown(NamedTuple):
    """What showinfo says of a frame: pts and duration (or 0) in ticks, and whether it is a keyframe."""

    pts: int
    duration: int
    key: bool


class _Times:
    """The times of the frames that passed showinfo, read from FFmpeg's log as it runs."""

    def __init__(self) -> None:
        self._found: queue.SimpleQueue[_Shown] = queue.SimpleQueue()
        self._number = 0
        self._complete = True

    def take(self, line: str) -> bool:
        """Take in a line of the log; whether it was showinfo's. A frame's number tells if one before was lost."""
        found = _SHOWN.search(line)
        if found is None:
            return False
        number = int(found.group(1))
        self._complete = self._complete and number in (self._number, 0)  # 0 again where the picture's size changes
        self._number = number + 1
        self._found.put(_Shown(int(found.group(2)), int(found.group(3) or 0), found.group(4) == "1"))
        return True

    def next(self) -> _Shown:
        """The next frame. Raises DecoderFailed where the log is not complete."""
        try:
            time = self._found.get(timeout=_PATIENCE)
        except queue.Empty:
            self._complete = False
        if not self._complete:
            raise DecoderFailed("FFmpeg's report of its frames is incomplete.")
        return time

    def close(self) -> None:
        """Raise DecoderFailed where more frames were named than came out."""
        if not self._found.empty():
            raise DecoderFailed("FFmpeg named a frame that it did not give.")

    def __iter__(self) -> Iterator[_Shown]:
        """All that there are, once FFmpeg has ended."""
        while not self._found.empty():
            yield self.next()


def _last_length(demuxed: Index) -> int:
    """Ticks that the container gives the last frame, for versions of FFmpeg whose showinfo tells none."""
    return max(demuxed.end_pts - max(demuxed.shown(), default=0), 1)


def _any_of(pts: Sequence[int]) -> str:
    """An expression that is true for the frames with these pts (ascending): a binary search, so that it stays fast."""
    if len(pts) <= _LEAF:
        return "+".join(f"eq(pts,{value})" for value in pts)
    middle = len(pts) // 2
    return f"if(lt(pts,{pts[middle]}),{_any_of(pts[:middle])},{_any_of(pts[middle:])})"
