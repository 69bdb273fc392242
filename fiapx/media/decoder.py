"""The parent's side of the decoder child: ask it for frames, in order, with a bounded window of work ahead."""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, Final, Self

from fiapx.core.errors import DecoderFailed, FiapxError, MediaError, error_class
from fiapx.core.options import ExtractOptions
from fiapx.core.text import visible
from fiapx.media import filters
from fiapx.media.ipc import Message, read_message
from fiapx.media.model import EncodedFrame, Index, Limits, Run, VideoInfo
from fiapx.media.process import Supervised, Watch

_RUNS_A_SEGMENT: Final = 2
_SEGMENTS_AHEAD: Final = 2
_LONGEST_TEXT: Final = 300


class Decoder(Supervised):
    """One video in a sandboxed child. Every way it can fail is a FiapxError."""

    info: VideoInfo
    index: Index

    def __init__(self, file: BinaryIO, options: ExtractOptions, limits: Limits, watch: Watch) -> None:
        job = {
            "options": options.model_dump(mode="json", exclude_none=True),
            "max_pixels": limits.max_pixels,
            "cpu_seconds": limits.timeout,
        }
        descriptor = file.fileno()
        super().__init__("fiapx.media.child", [str(descriptor), json.dumps(job)], watch, pass_fds=(descriptor,))
        self._options = options
        self._max_pixels = limits.max_pixels
        self.errors = 0
        """Packets that the decoder refused so far."""

    def __enter__(self) -> Self:
        """Wait for the index. Raises what is wrong with the video."""
        try:
            message = self._read()
            with _sense():
                self.info, self.index = _video_info(message), _index(message)
            filters.check_pixels(*filters.picture_size(self.info, self._options), self._max_pixels)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def frames(self, runs: Iterable[Run]) -> Iterator[EncodedFrame]:
        """The frames of the runs in order of pts, without those that cannot be decoded."""
        remaining = iter(runs)
        waiting: deque[tuple[Run, ...]] = deque()
        while True:
            while len(waiting) < _SEGMENTS_AHEAD and (segment := tuple(islice(remaining, _RUNS_A_SEGMENT))):
                self._send(segment)
                waiting.append(segment)
            if not waiting:
                return
            expected = deque(pts for run in waiting[0] for pts in run.wanted)
            while (message := self._read()).head.get("type") == "frame":
                with _sense():
                    frame = _frame(message, expected)
                yield frame
            with _sense():
                self.errors = int(message.head["errors"])
            waiting.popleft()

    def _send(self, runs: tuple[Run, ...]) -> None:
        line = json.dumps({"runs": [(run.first, run.last, run.wanted) for run in runs]})
        try:
            self.stdin.write(line.encode() + b"\n")
            self.stdin.flush()
        except BrokenPipeError:
            raise self.failure() from None

    def _read(self) -> Message:
        with _sense():
            message = read_message(self.stdout)
        if message is None:
            raise self.failure()
        if message.head.get("type") == "error":
            raise _error(message.head)
        return message


@contextmanager
def _sense() -> Iterator[None]:
    """Turn what a child that was taken over might send into DecoderFailed."""
    try:
        yield
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DecoderFailed("The decoder answered nonsense.") from error


def _error(head: dict[str, Any]) -> FiapxError:
    kind = error_class(str(head.get("code")))
    text = visible(str(head.get("message")))[:_LONGEST_TEXT]
    return kind(text) if issubclass(kind, MediaError) else DecoderFailed(text)


def _frame(message: Message, expected: deque[int]) -> EncodedFrame:
    """A frame that was asked for and comes in its turn; the child may skip, and do nothing else."""
    head = message.head
    while expected:
        if expected.popleft() == head["pts"]:
            return EncodedFrame(int(head["pts"]), int(head["width"]), int(head["height"]), message.payload)
    raise DecoderFailed("The decoder sent a frame that nobody asked for.")


def _video_info(message: Message) -> VideoInfo:
    info = VideoInfo.from_json(message.head["info"])
    filters.check_info(info)
    return info


def _index(message: Message) -> Index:
    head, pts = message.head, array("q")
    keyframes_at = int(head["length"]) * pts.itemsize
    pts.frombytes(message.payload[:keyframes_at])
    if len(message.payload) != keyframes_at + len(pts):
        raise ValueError("the index is incomplete")
    return Index(
        pts=pts,
        keyframes=message.payload[keyframes_at:],
        end_pts=int(head["end_pts"]),
        reliable=bool(head["reliable"]),
        packets=int(head["packets"]),
        streams_end=float(head["streams_end"]),
        damaged=int(head["damaged"]),
    )
