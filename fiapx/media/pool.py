"""Decoder children side by side: each decodes whole segments, and their frames come out in order."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from fiapx.core.cores import granted_cores
from fiapx.core.errors import FiapxError
from fiapx.core.options import ExtractOptions
from fiapx.media.decoder import Decoder
from fiapx.media.memory import affordable
from fiapx.media.model import EncodedFrame, Index, Limits, Refused, Source, VideoInfo
from fiapx.media.process import Watch
from fiapx.media.segments import Segment
from fiapx.media.spare import Spare

_AHEAD: Final = 2
"""Segments a child has been asked for at a time: the one it works on, and its next."""
_WINDOW: Final = 8
"""Segments a child, of all children together, that are asked for or wait to be read: some take longer than others."""
_LARGE: Final = 16 * 1024**2
"""Bytes of a video that has work for a second child, most likely."""


@contextmanager
def decoding(
    source: Source, options: ExtractOptions, limits: Limits, watch: Watch, jobs: int | None, spare: Spare | None
) -> Iterator[Pool]:
    """A pool on this source, of at most `jobs` children (default: one for each core that this process may use); `spare`
    is the first."""
    size = jobs or granted_cores()
    several = size > 1 and options.engine != "ffmpeg" and os.fstat(source.file.fileno()).st_size >= _LARGE

    def start(known: tuple[VideoInfo, Index] | None) -> Decoder:
        decoder = Decoder(children, source.file, options, limits, watch, known, share=size)
        if known is None and several:
            children.refill()  # importing takes as long as finding out what the video is
        return decoder

    with spare or Spare() as children, Pool(start, size) as pool:
        yield pool


class Pool:
    """At most `size` children on one video, fewer where its pictures are large. The first finds out what it is; more
    are started once there is work for them. One decoder thread each splits the work better than threads in one decoder
    (measured: 1.9 against 1.3 times as fast on two cores)."""

    def __init__(self, start: Callable[[tuple[VideoInfo, Index] | None], Decoder], size: int) -> None:
        """`start` starts a child, given what is known of the video."""
        self._start = start
        self._size = size
        self._order: deque[tuple[Decoder, Segment]] = deque()
        """All that was asked for and not yet read."""
        self._following: Iterator[Segment] = iter(())
        self._next: Segment | None = None
        """One that no child could take yet."""
        self._lock = threading.Lock()
        self._decoders: list[Decoder] = []
        self._busy: Counter[Decoder] = Counter()
        """How many segments each has been asked for and has not finished."""
        self._add(None)
        self.refused: Refused = frozenset()
        """What was refused in a segment whose frames nobody wanted any more."""

    def __enter__(self) -> Self:
        """Wait until the video is known. Raises what is wrong with it."""
        try:
            self.info, self.index = self._decoders[0].found()
            self._size = affordable(self.info, self.index, self._size)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for decoder in self._decoders:
            decoder.__exit__(kind, error, trace)

    def retire(self) -> None:
        """End the children, since somebody else decodes from now on, and needs the memory."""
        with self._lock:
            self._following, self._next = iter(()), None
        self.__exit__(None, None, None)

    def frames(self, segments: Iterable[Segment]) -> Generator[EncodedFrame | Refused]:
        """The frames of all segments in order of pts, without those that cannot be decoded; after each segment what was
        refused in it."""
        self._following, self._next = iter(segments), None
        while True:
            self._hand_out(more=True)
            if not self._order:
                return
            decoder, segment = self._order[0]
            answer = decoder.answer(segment)
            try:
                for part in answer:  # noqa: UP028 - "yield from" would close the answer too
                    yield part
            except GeneratorExit:  # somebody else goes on; what was refused counts all the same
                with suppress(FiapxError):
                    self.refused |= next(part for part in answer if not isinstance(part, EncodedFrame))
                raise
            self._order.popleft()

    def _hand_out(self, *, more: bool = False) -> None:
        """Ask for segments until every child has enough to do. Where `more` is set, children may be started: not in a
        child's own thread, since they die with the thread that starts them."""
        with self._lock:
            while len(self._order) < _WINDOW * self._size:
                self._next = self._next or next(self._following, None)
                if self._next is None or not (decoder := self._idle(more=more)):
                    return
                self._order.append((decoder, self._next))
                self._busy[decoder] += 1
                decoder.ask(self._next)
                self._next = None

    def _finished(self, decoder: Decoder) -> None:
        with self._lock:
            self._busy[decoder] -= 1
        self._hand_out()

    def _idle(self, *, more: bool) -> Decoder | None:
        """The child with the least to do; none if all have enough."""
        decoder = min(self._decoders, key=self._busy.__getitem__)
        if self._busy[decoder] < _AHEAD:
            return decoder
        if not more or len(self._decoders) == self._size:
            return None
        return self._add((self.info, self.index))

    def _add(self, known: tuple[VideoInfo, Index] | None) -> Decoder:
        decoder = self._start(known)
        decoder.on_finished = partial(self._finished, decoder)
        self._decoders.append(decoder)
        return decoder
