"""What a job is, and which of its states may follow which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """The life of a job. `completed` may carry warnings, `failed` carries a code and a message."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""Legal transitions. `running → queued` is a release or a reclaim, `queued → completed` has the result of an identical
job; terminal states never change."""

LIVE: Final = frozenset(state for state, following in TRANSITIONS.items() if following)

MAX_FAILURES: Final = 3
"""Attempts that may be lost (worker killed, decoder crashed) before a job ends as `failed(crash_loop)`."""
