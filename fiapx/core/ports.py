"""The seams of the system. Each docstring is the contract that every adapter's tests check.

All ports are synchronous and safe to share between threads; asynchronous callers use a thread pool.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from fiapx.core.events import Event


class ObjectWriter(Protocol):
    """One object being written. Leaving the `with` block without `commit` discards it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def write(self, data: bytes | memoryview, /) -> int:
        """Append. Raises NoSpace."""
        ...

    def commit(self) -> None:
        """Return once the object is on stable storage and visible under its key. Raises NoSpace."""
        ...


class Storage(Protocol):
    """Objects under keys such as ``videos/<id>``. An object is complete or absent, never partial."""

    def create(self, key: str) -> ObjectWriter:
        """Start writing; the object replaces an older one of the same key at commit."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A seekable reader with a real file descriptor, for a decoder. Raises NotFound."""
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes ``[start, end)`` in chunks of bounded size. Raises NotFound before the first chunk."""
        ...

    def address(self, key: str, ttl: float, *, disposition: str, media_type: str) -> str | None:
        """A URL at which anybody can read the object for `ttl` seconds, with ranges, and with these values of
        Content-Disposition and Content-Type; None from a storage that has no URLs. The object need not be there."""
        ...

    def delete(self, key: str) -> None:
        """Delete; deleting what is not there is not an error."""
        ...

    def list(self, prefix: str) -> Iterator[tuple[str, float]]:
        """(key, age in seconds) of every complete object whose key starts with the prefix."""
        ...

    def sweep(self, older_than: float) -> int:
        """Remove what abandoned writers left behind more than so many seconds ago; return how many."""
        ...

    def resting(self) -> float:
        """Seconds for which it is left alone since it has failed several times in a row, or is full; 0 as a rule."""
        ...

    def check(self) -> None:
        """Return if objects can be stored now. Raises Unavailable or NoSpace within two seconds."""
        ...


class InUse(Exception):
    """An earlier writer has not let go of its object."""


class PartialWriter(Protocol):
    """A stretch of an object that is not complete. What is not synced when the block is left may be lost."""

    in_memory: bool
    """Whether what is not synced takes memory."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append. Raises NoSpace."""
        ...

    def sync(self) -> int:
        """Return the offset up to which the object is on stable storage now: at least all that was written before.

        Another thread may write meanwhile. Raises NoSpace.
        """
        ...


class Partials(Protocol):
    """Objects that arrive piece by piece, until they become objects of the Storage of the same place.

    Each writer has an epoch, greater than those of all writers before it. The caller keeps the offset up to which an
    object was synced, and takes it from the writer of the newest epoch alone: what an older one still writes, it writes
    in vain.
    """

    def append(self, upload_id: str, offset: int, epoch: int, *, force: bool = False) -> PartialWriter:
        """Go on at `offset`; what lies beyond it is forgotten.

        Raises InUse while an earlier writer lives, unless that is to be left behind by `force`, which may take long.
        Raises NotFound if the bytes before `offset` are gone, NoSpace.
        """
        ...

    def assemble(self, upload_id: str, key: str, size: int) -> str | None:
        """Store the `size` bytes as an object of the Storage; done already is done.

        Returns their hex SHA-256, where they had to be read for that. Raises NotFound, NoSpace."""
        ...

    def holds(self, upload_id: str, size: int) -> bool:
        """Are the first `size` bytes there, for somebody to go on after them?"""
        ...

    def discard(self, upload_id: str) -> None:
        """Delete what there is."""
        ...

    def pending(self) -> Iterator[tuple[str, float]]:
        """(upload id, age in seconds) of all of them."""
        ...


class Bus(Protocol):
    """Events to subscribers, and the wake-up that says "work exists"."""

    def publish(self, event: Event) -> None:
        """Return once every subscriber's copy is safe. Raises Unavailable; the caller publishes again."""
        ...

    def subscribe(self, subscriber: str, types: Collection[str], handler: Callable[[Event], None]) -> None:
        """Call `handler` with each event of these types, at least once; it must tolerate repeats and may raise
        to get the event again."""
        ...

    def wait_for_work(self, timeout: float) -> bool:
        """Block until a job may be waiting (True) or `timeout` seconds are over (False). A hint: claim to know."""
        ...

    def check(self) -> None:
        """Return if events can be published now. Raises Unavailable within two seconds."""
        ...

    def close(self) -> None:
        """Stop deliveries and wake everyone who waits."""
        ...


class Cache(Protocol):
    """Short-lived values that may vanish at any moment; nothing may depend on them but speed.

    A cache that cannot be reached forgets what it is told and finds nothing, soon and without an error.
    """

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep for at most `ttl` seconds."""
        ...

    def add(self, key: str, value: bytes, ttl: float) -> bool:
        """Keep the value unless there is one already; whether it was kept. One step: of several callers one wins."""
        ...

    def raise_to(self, key: str, number: int, ttl: float) -> None:
        """Keep the larger one of `number` and the number that is there, in decimal digits. One step."""
        ...

    def delete(self, key: str) -> None: ...

    def check(self) -> None:
        """Return if values are kept now. Raises Unavailable within two seconds."""
        ...


class Mailer(Protocol):
    """Delivers one message."""

    def send(self, message: EmailMessage) -> None:
        """Return once the next hop has accepted it. Raises Unavailable (try again) or FiapxError (never will work)."""
        ...

    def resting(self) -> float:
        """Seconds for which sending makes no sense since the server has failed several times in a row; 0 as a rule."""
        ...


class Sessions(Protocol):
    """Says whether a log-in session is still good. Answered by auth, wherever it runs."""

    def active(self, session_id: str, token: str, /) -> bool:
        """`token` is an access token of the session, whose signature and times are good. Raises Unavailable."""
        ...


@dataclass(frozen=True)
class Identity:
    """Who makes a request: the verified content of an access token."""

    user_id: str
    email: str
    session_id: str
    role: str = "user"
