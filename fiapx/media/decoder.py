"""The parent's side of a decoder child: give it a video, ask it for segments, believe nothing that it says."""

from __future__ import annotations

import fcntl
import json
import math
import socket
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from queue import SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, Final

from fiapx.core.errors import DecoderFailed, FiapxError, MediaError, error_class
from fiapx.core.options import ExtractOptions
from fiapx.core.text import visible
from fiapx.media import filters
from fiapx.media.ipc import Message, read_frame, read_index, read_message, write_index
from fiapx.media.model import THUMBNAIL, EncodedFrame, Index, Limits, Refused, VideoInfo
from fiapx.media.process import Supervised, Watch
from fiapx.media.segments import Kind, Segment
from fiapx.media.spare import Spare
from fiapx.media.style import Style

_LONGEST_TEXT: Final = 300
_READ_AHEAD: Final = 64 * 1024**2
"""Bytes of frames that wait in the parent for their turn, shared by all children of a video; then a child waits."""
_PIPE: Final = 256 * 1024
"""Bytes of the pipe that images come through: whenever it is full, two processes have to change places. All pipes of a
user together may have 64 MiB."""


class Decoder(Supervised):
    """One video in a sandboxed child. Every way it can fail is a FiapxError."""

    def __init__(
        self,
        spare: Spare,
        file: BinaryIO,
        options: ExtractOptions,
        limits: Limits,
        watch: Watch,
        known: tuple[VideoInfo, Index] | None = None,
        *,
        share: int = 1,
    ) -> None:
        """`known`: what another decoder has found out about the video already. It is one of `share` that work on it."""
        process, self._socket = spare.take()
        super().__init__(process, watch)
        _widen(self.stdout)
        self._style = Style.of(options)
        self._max_pixels = limits.max_pixels
        self._known = known
        self._inbox = _Inbox(_READ_AHEAD // share)
        self.on_finished: Callable[[], None] = lambda: None
        """Called, in a thread of the decoder's own, when a segment is finished, though it may not be read yet."""
        job = {
            "style": asdict(self._style),
            "max_pixels": limits.max_pixels,
            "cpu_seconds": limits.timeout,
            "indexed": known is not None,
        }
        self._requests: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._requests.put(job)
        self._hand_over(file)
        for loop in (self._write_on, self._read_on):
            threading.Thread(target=loop, daemon=True).start()

    def found(self) -> tuple[VideoInfo, Index]:
        """What the video is; waits for it. Raises what is wrong with the video."""
        if self._known is None:
            message = self._next()
            with sense():
                info, index = read_index(message)
                filters.check_info(info)
            filters.check_pixels(*filters.picture_size(info, self._style), self._max_pixels)
            self._known = info, index
        return self._known

    def ask(self, segment: Segment) -> None:
        """Request a segment. Several may be asked for; their `answer`s are read in the same order."""
        runs = [(run.first, run.last, run.wanted) for run in segment.runs]
        self._requests.put({"kind": segment.kind, "threads": segment.threads, "runs": runs})

    def answer(self, segment: Segment) -> Iterator[EncodedFrame | Refused]:
        """The segment's frames in order of pts, without those that cannot be decoded; at last the ordinals of the
        packets that the decoder refused."""
        expected = deque(segment.wanted)
        while (message := self._next()).head.get("type") == "frame":
            with sense():
                frame = _expected(message, expected)
                self._check(frame, segment.kind)
            yield frame
        with sense():
            yield self._refused(message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inbox.close()
        self._requests.put(None)
        super().__exit__(kind, error, trace)
        self._socket.close()

    def _check(self, frame: EncodedFrame, kind: Kind) -> None:
        """Raise ValueError for a frame that is not made as it was asked for."""
        info, _ = self.found()
        if kind == "image":
            size = filters.picture_size(info, self._style)
            extras = self._style.cleans, self._style.sheet
        else:
            size, extras = THUMBNAIL, (False, False)
            if len(frame.data) != math.prod(THUMBNAIL):
                raise ValueError("a thumbnail is incomplete")
        if (frame.width, frame.height) != size or (frame.look is not None, bool(frame.tile)) != extras:
            raise ValueError("a frame is not as it was asked for")

    def _refused(self, message: Message) -> Refused:
        """The ordinals of packets that end a segment. Raises ValueError."""
        _, index = self.found()
        ordinals = array("q", message.payload)
        packets = range(len(index.pts))
        if (
            message.head.get("type") != "done"
            or len(ordinals) > len(packets)
            or any(o not in packets for o in ordinals)
        ):
            raise ValueError("a segment does not end so")
        return frozenset(ordinals)

    def _hand_over(self, file: BinaryIO) -> None:
        try:
            socket.send_fds(self._socket, [b"\0"], [file.fileno()])
        except (BrokenPipeError, ConnectionResetError):
            pass  # a child that has died is noticed when it is read
        except OSError as error:
            self.__exit__(None, None, None)
            raise DecoderFailed(f"The video could not be handed to the decoder: {error.strerror}.") from error

    def _next(self) -> Message:
        message = self._inbox.get()
        if message is None:
            raise self.failure()
        if isinstance(message, FiapxError):
            raise message
        if message.head.get("type") == "error":
            raise child_error(message.head)
        return message

    def _write_on(self) -> None:
        """Runs in a thread, since a child that cannot write its frames does not read what it is asked for."""
        with suppress(OSError), self._socket.makefile("wb") as stream:
            while (request := self._requests.get()) is not None:
                stream.write(json.dumps(request).encode() + b"\n")
                if request.get("indexed"):
                    assert self._known is not None
                    write_index(stream, *self._known)
                stream.flush()

    def _read_on(self) -> None:
        """Runs in a thread, until the child has nothing more to say."""
        try:
            while message := self._read():
                self._inbox.put(message)
                self._inbox.wait_for_room()
                if message.head.get("type") == "done":
                    self.on_finished()
        except FiapxError as error:
            self._inbox.put(error)
        finally:
            self._inbox.put(None)

    def _read(self) -> Message | None:
        with sense():
            return read_message(self.stdout)


class _Inbox:
    """Messages that were read before their turn came."""

    def __init__(self, limit: int) -> None:
        """From `limit` bytes on, there is no room for more."""
        self._limit = limit
        self._held: deque[Message | FiapxError | None] = deque()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, message: Message | FiapxError | None) -> None:
        """Add what was read."""
        with self._changed:
            self._held.append(message)
            self._size += _size(message)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Return once less than the limit is held: what is read before that would be held beside it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._size < self._limit)

    def get(self) -> Message | FiapxError | None:
        """Take the next one; waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._held)
            message = self._held.popleft()
            self._size -= _size(message)
            self._changed.notify_all()
            return message

    def close(self) -> None:
        """Let nobody wait for room any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _widen(pipe: BinaryIO) -> None:
    with suppress(AttributeError, OSError):
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _size(message: Message | FiapxError | None) -> int:
    return len(message.payload) if isinstance(message, Message) else 0


@contextmanager
def sense() -> Iterator[None]:
    """Turn what a child that was taken over might send into DecoderFailed."""
    try:
        yield
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DecoderFailed("The decoder answered nonsense.") from error


def child_error(head: dict[str, Any]) -> FiapxError:
    kind = error_class(str(head.get("code")))
    text = visible(str(head.get("message")))[:_LONGEST_TEXT]
    return kind(text) if issubclass(kind, MediaError) else DecoderFailed(text)


def _expected(message: Message, expected: deque[int]) -> EncodedFrame:
    """A frame that was asked for and comes in its turn; the child may skip, and do nothing else."""
    frame = read_frame(message)
    while expected:
        if expected.popleft() == frame.pts:
            return frame
    raise DecoderFailed("The decoder sent a frame that nobody asked for.")
