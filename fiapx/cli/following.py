"""Following a job until it ends: by server-sent events, and by asking again where those do not work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fiapx.cli.session import at
from fiapx.core.errors import FiapxError, Unavailable, WaitTimedOut
from fiapx.core.jobs import JobState

if TYPE_CHECKING:
    from fiapx.cli.api import Api

Job = dict[str, Any]

_SILENCE = 45.0
"""Longest silence of an event stream, in seconds; the server's heartbeat comes every 15."""
_PATIENCE = 60.0
"""How long a server may be away, such as for a restart, before we give up."""


def ended(job: Job) -> bool:
    """Whether a job's state is one that never changes; a state that this version does not know is not."""
    return job["state"] in {state.value for state in JobState if state.terminal}


def follow(api: Api, job_id: str, deadline: float | None = None) -> Iterator[Job]:
    """The job now and after each change, until it has ended.

    `deadline` is a time of the monotonic clock: WaitTimedOut is raised then. Raises Unavailable after a minute
    without an answer.
    """
    streaming = deadline is None  # reading a stream cannot be stopped on time, asking can
    seen: Job | None = None
    pause, heard = 0.2, time.monotonic()
    while True:
        try:
            for job in _changes(api, job_id, streaming):
                heard = time.monotonic()
                if job != seen:
                    yield job
                    seen, pause = job, 0.2
                if ended(job):
                    return
        except _NoStream:
            streaming = False
        except Unavailable:
            if time.monotonic() - heard > _PATIENCE:
                raise
        if deadline is not None and time.monotonic() + pause > deadline:
            time.sleep(max(0.0, deadline - time.monotonic()))
            raise WaitTimedOut(f"the job did not end in time; it goes on: fiapx watch {job_id}")
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0)


class _NoStream(FiapxError):
    """The server, or something before it, does not let events through."""


def _changes(api: Api, job_id: str, streaming: bool) -> Iterator[Job]:
    """The job as it is, and then its events if they are wanted."""
    job: Job = api.get(at("jobs", job_id))
    yield job
    if streaming and not ended(job):
        yield from _events(api, job_id)


def _events(api: Api, job_id: str) -> Iterator[Job]:
    from httpx_sse import EventSource, SSEError

    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    with api.stream(at("jobs", job_id, "/events"), headers, timeout=_SILENCE) as response:
        try:
            for event in EventSource(response).iter_sse():
                if event.event == "job":
                    yield json.loads(event.data)
        except (SSEError, ValueError):
            raise _NoStream from None
