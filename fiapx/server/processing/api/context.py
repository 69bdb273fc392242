"""What the routes work with, and the parameters they share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from threading import Event
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request, Response

from fiapx.core.errors import NotFound
from fiapx.core.ports import Storage
from fiapx.server.processing.commands import Accepted, Commands
from fiapx.server.processing.model import Once
from fiapx.server.processing.queries import Queries
from fiapx.server.processing.uploads.receive import Finisher
from fiapx.server.processing.uploads.service import Uploads

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Context:
    """The services behind the routes. `draining` is set when the server shuts down."""

    commands: Commands
    queries: Queries
    uploads: Uploads
    finisher: Finisher
    storage: Storage
    max_upload_bytes: int
    draining: Event
    presign: float = 0
    """Seconds that a URL is good by which a client gets a ZIP from the store itself; 0 for none."""


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def existing_id(value: str) -> str:
    """Raises NotFound for what is no id."""
    if not _ID.fullmatch(value):
        raise NotFound  # like any other id that names nothing
    return value


async def _video_id(video_id: Annotated[str, Path()]) -> str:
    return existing_id(video_id)


async def _job_id(job_id: Annotated[str, Path()]) -> str:
    return existing_id(job_id)


# Coroutines, since FastAPI gives each plain dependency a turn in the thread pool.
Ctx = Annotated[Context, Depends(_context)]
VideoId = Annotated[str, Depends(_video_id)]
JobId = Annotated[str, Depends(_job_id)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,255}$",
        description="Repeating a request with the same key gives what the first one made.",
    ),
]
CursorParam = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200)]


def once(key: str | None, fingerprint: str) -> Once | None:
    """A request that may be repeated, if it says so."""
    return Once(key, fingerprint) if key is not None else None


def may_be_kept(response: Response, seconds: float) -> None:
    """Tell the gateway that the answer stays right until the user's next write; it keeps it for so long at most."""
    response.headers["Fiapx-Cache"] = str(int(seconds))


def created(response: Response, accepted: Accepted, location: str) -> None:
    """The headers of a 201."""
    response.headers["Location"] = location
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
