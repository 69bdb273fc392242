"""A circuit breaker. It keeps no time: an active probe says when trying again makes sense."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The values are those of the metric."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Breaker:
    """Opens after `threshold` failures in a row; half-open, it lets one request through, whose outcome decides.

    Our own, since purgatory lets every concurrent request through when half-open, and takes an outcome that it is told
    to ignore (a client that left) for a success.
    """

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._failures = 0
        self._trial = False
        self.state = State.CLOSED

    @property
    def trying(self) -> bool:
        """Whether a request is under way that will decide."""
        return self._trial

    def admit(self) -> bool:
        """Whether a request may pass. One that does ends with `succeeded`, `failed` or `abandoned`."""
        if self.state is State.HALF_OPEN and not self._trial:
            self._trial = True
            return True
        return self.state is State.CLOSED

    def succeeded(self) -> None:
        self._trial = False
        if self.state is not State.OPEN:  # a late answer to an old request says nothing of now
            self.state, self._failures = State.CLOSED, 0

    def failed(self) -> None:
        self._trial = False
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._threshold:
            self.state = State.OPEN

    def abandoned(self) -> None:
        """The request ended for a reason that says nothing of the other side."""
        self._trial = False

    def probed(self) -> None:
        """The other side answers again."""
        if self.state is State.OPEN:
            self.state = State.HALF_OPEN
