"""Routes of videos."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from fiapx.core.errors import IdempotencyMismatch, InvalidRequest
from fiapx.core.ports import Identity
from fiapx.server.identity import CurrentUser
from fiapx.server.processing.api.context import (
    Context,
    Ctx,
    CursorParam,
    IdempotencyKey,
    Limit,
    VideoId,
    created,
    may_be_kept,
    once,
)
from fiapx.server.processing.api.intake import Declared, body_schema, media_type, receive, unsupported
from fiapx.server.processing.commands import Accepted, fingerprint
from fiapx.server.processing.model import Once
from fiapx.server.processing.views import VideoPage, VideoView
from fiapx.server.processing.warming import PAGE

router = APIRouter(prefix="/videos", tags=["videos"])

BINARY = {"type": "string", "format": "binary"}
_BODY = body_schema(
    ("application/octet-stream", BINARY),
    ("multipart/form-data", {"type": "object", "properties": {"file": BINARY}, "required": ["file"]}),
)


@router.post("", status_code=201, openapi_extra=_BODY)
async def upload_video(
    request: Request, response: Response, user: CurrentUser, context: Ctx, key: IdempotencyKey = None
) -> VideoView:
    """Upload a video: its bytes as they are (name in `?name=` or Content-Disposition), or a form with a `file`."""
    kind = media_type(request)
    if kind and not kind.startswith("video/") and kind not in {"application/octet-stream", "multipart/form-data"}:
        raise unsupported("video/*, application/octet-stream or multipart/form-data")

    def identified(declared: Declared) -> Once | None:
        if declared.fields:
            raise InvalidRequest(f"{next(iter(declared.fields))[:64]}: not a field of a video")
        return once(key, fingerprint("POST /videos", declared.name, declared.size))

    async def check(declared: Declared) -> Accepted | None:
        return await replayed(context, user, declared, identified(declared))

    got = await receive(request, context, check)
    if not isinstance(got, Accepted):
        mark = once(key, fingerprint("POST /videos", got.video.name, got.video.size))
        got = await run_sync(context.commands.accept_upload, user, got.video, None, mark)
    created(response, got, f"{request.url.path}/{got.id}")
    return await run_sync(context.queries.video, user.user_id, got.id)


async def replayed(context: Context, user: Identity, declared: Declared, mark: Once | None) -> Accepted | None:
    """What an earlier request with this key made. A mismatch counts once all is declared."""
    if mark is None or declared.size is None:
        return None
    try:
        return await run_sync(context.commands.replay, user, mark)
    except IdempotencyMismatch:
        if declared.complete:
            raise
        return None


@router.get("")
def list_videos(
    response: Response,
    user: CurrentUser,
    context: Ctx,
    size: Annotated[int | None, Query(ge=0, lt=2**63, description="Only those of so many bytes.")] = None,
    cursor: CursorParam = None,
    limit: Limit = PAGE,
) -> VideoPage:
    """Your videos, newest first."""
    may_be_kept(response, context.queries.ttls.videos)
    return context.queries.videos(user.user_id, size, cursor, limit)


@router.get("/{video_id}")
def show_video(response: Response, user: CurrentUser, video_id: VideoId, context: Ctx) -> VideoView:
    """One video."""
    may_be_kept(response, context.queries.ttls.videos)
    return context.queries.video(user.user_id, video_id)


@router.delete("/{video_id}", status_code=204, response_class=Response)
def delete_video(user: CurrentUser, video_id: VideoId, context: Ctx) -> None:
    """Delete a video; its live jobs are cancelled, ended ones keep their results."""
    context.commands.delete_video(user, video_id)
