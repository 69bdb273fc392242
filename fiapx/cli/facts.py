"""Jobs as the server tells them, in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fiapx.cli.text import plural
from fiapx.cli.waiting import describe
from fiapx.core.text import size


def row(job: dict[str, Any]) -> tuple[str, ...]:
    """Id, state, time of creation, video, outcome."""
    error, result = job.get("error") or {}, job.get("result")
    outcome = f"{plural(result['frames'], 'frame')}, {size(result['size'])}" if result else str(error.get("code", ""))
    return job["id"], job["state"], local_time(job["created_at"]), job["video"]["name"], outcome


def facts(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """All that is worth telling of one job, name by name; attempts where it took more than one."""
    yield "job", job["id"]
    yield "state", describe(job)
    yield "video", f"{job['video']['name']} ({job['video']['id']})"
    if options := job.get("options"):
        yield "options", ", ".join(_chosen(options)) or "default"
    if error := job.get("error"):
        yield "error", f"{error['message']} ({error['code']})"
    for warning in job.get("warnings") or []:
        yield "warning", f"{warning['message']} ({warning['code']})"
    if result := job.get("result"):
        yield "sha256", result["sha256"]
    if job.get("reused_from"):
        yield "result of", job["reused_from"]
    if job.get("retry_of"):
        yield "retry of", job["retry_of"]
    for name in ("created", "started", "finished"):
        if moment := job.get(f"{name}_at"):
            yield name, local_time(moment)
    attempts = job.get("attempts") or []
    for attempt in attempts if len(attempts) > 1 else []:
        yield f"attempt {attempt['number']}", _attempt(attempt)


def _attempt(attempt: dict[str, Any]) -> str:
    """``2026-11-24 08:07:56 failed: There is no room left. (no_space), by host:42``."""
    error, worker = attempt.get("error"), attempt.get("worker")
    why = f": {error['message']} ({error['code']})" if error else ""
    return f"{local_time(attempt['started_at'])} {attempt['outcome']}{why}" + (f", by {worker}" if worker else "")


def _chosen(options: dict[str, Any]) -> Iterator[str]:
    """What differs from the defaults: ``scenes 10``, ``at 1.5,50%``, ``sheet``."""
    from fiapx.core.options import ExtractOptions

    defaults = ExtractOptions().model_dump(mode="json")
    for name, value in options.items():
        if value is True:
            yield name
        elif value != defaults.get(name):
            yield f"{name} {','.join(value) if isinstance(value, list) else value}"


def local_time(moment: str) -> str:
    """An ISO 8601 time of the server in local time, to the second."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return moment
