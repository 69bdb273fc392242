"""A request on its way to a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

import httpcore

from fiapx.server.proxy.headers import Pairs

_SAFE: Final = frozenset({"GET", "HEAD"})


class Content(Protocol):
    """A request's body. `large` ones may take long, for the client's reasons."""

    large: bool
    started: bool
    """Some of it was taken, so that it cannot be sent again."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class Outgoing:
    """What is sent, whichever instance gets it."""

    method: str
    target: bytes
    headers: Pairs
    content: Content | None

    @property
    def large(self) -> bool:
        return self.content is not None and self.content.large

    @property
    def safe(self) -> bool:
        """Sending it twice changes nothing."""
        return self.method in _SAFE and not self._begun

    def untouched_by(self, error: Exception) -> bool:
        """Nothing of it has been sent."""
        return isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout) and not self._begun

    @property
    def _begun(self) -> bool:
        return self.content is not None and self.content.started
