"""A job's life as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from fiapx.core.errors import AuthRequired, NotFound
from fiapx.server.identity import CurrentUser, current_user
from fiapx.server.processing.api.context import Context, Ctx, JobId
from fiapx.server.processing.views import JobView
from fiapx.server.processing.watch import Watch

router = APIRouter(prefix="/jobs", tags=["jobs"])

_POLL: Final = 0.5
_HEARTBEAT: Final = 15.0
_RECHECK: Final = 30.0
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def watch_job(request: Request, user: CurrentUser, job_id: JobId, context: Ctx) -> EventSourceResponse:
    """An event `job` with the job at once, at every change of its state or progress, and at its end."""
    watch = context.queries.watch(user.user_id, job_id)
    first = await run_sync(watch.look)
    changes = _changes(context, watch, first, partial(current_user, request))
    return EventSourceResponse(changes, headers=_HEADERS)


async def _changes(
    context: Context, watch: Watch, view: JobView, identify: Callable[[], object]
) -> AsyncIterator[bytes]:
    """Ends with the job, when it is deleted, soon after the session or its token has ended, and when the server shuts
    down. A quiet stream sends comments."""
    yield _event(view)
    spoken = identified = time.monotonic()
    while not view.state.terminal and not context.draining.is_set():
        await asyncio.sleep(_POLL)
        try:
            latest = await run_sync(watch.look)
            if time.monotonic() - identified >= _RECHECK:
                await run_sync(identify)
                identified = time.monotonic()
        except (NotFound, AuthRequired):
            return
        if _telling(latest) != _telling(view):
            view, spoken = latest, time.monotonic()
            yield _event(view)
        elif time.monotonic() - spoken >= _HEARTBEAT:
            spoken = time.monotonic()
            yield format_sse_event(comment="still here")


def _telling(view: JobView) -> JobView:
    """The estimate changes with the clock alone; that is no news."""
    return view.model_copy(update={"eta_seconds": None})


def _event(view: JobView) -> bytes:
    return format_sse_event(event="job", data_str=view.model_dump_json())
