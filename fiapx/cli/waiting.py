"""Waiting for a job in front of a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fiapx.cli.terminal import Advance, Terminal
from fiapx.cli.text import duration, plural
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.cli.api import Api


def wait_for(api: Api, terminal: Terminal, job_id: str, what: str, timeout: float | None) -> dict[str, Any]:
    """The job once it has ended, however it did. Raises WaitTimedOut after `timeout` seconds."""
    from fiapx.cli.following import follow

    job: dict[str, Any] = {}
    with terminal.progress(what) as advance:
        for job in follow(api, job_id, None if timeout is None else time.monotonic() + timeout):
            announce(job, advance)
    for warning in job.get("warnings") or []:
        terminal.warn(visible(f"{what}: {warning['message']} ({warning['code']})"))
    return job


def announce(job: dict[str, Any], advance: Advance) -> None:
    """Move the bar to where the job is."""
    progress = job.get("progress") or {}
    advance(int(progress.get("done") or 0), int(progress.get("total") or 0))


def describe(job: dict[str, Any]) -> str:
    """A job's state in a few words."""
    result, state = job.get("result"), visible(str(job["state"]))
    if result:
        state += " with warnings" if job.get("warnings") else ""
        return f"{state}, {plural(result['frames'], 'frame')}, {size(result['size'])}"
    if position := job.get("queue_position"):
        return f"{state}, number {position} in the queue"
    if eta := job.get("eta_seconds"):
        return f"{state}, about {duration(eta)} left"
    return state
