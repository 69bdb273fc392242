"""Routes of results. The ZIP, its manifest and its frames are all byte ranges of one object."""

from __future__ import annotations

import base64
from typing import Annotated, Final

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import StreamingResponse

from fiapx.core.errors import RangeNotSatisfiable
from fiapx.server.http import problem
from fiapx.server.identity import CurrentUser
from fiapx.server.processing.api.context import Context, Ctx, JobId
from fiapx.server.processing.frames import read_manifest
from fiapx.server.processing.model import Job
from fiapx.server.processing.names import attachment, stem
from fiapx.server.processing.ranges import if_range, none_match, parse_range

router = APIRouter(prefix="/jobs/{job_id}", tags=["results"])

_MEDIA_TYPES: Final = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_ZIP: Final = "application/zip"
_FRAME_CACHE: Final = "private, max-age=31536000, immutable"
IfNoneMatch = Annotated[str | None, Header()]


@router.head("/result", include_in_schema=False)
@router.get(
    "/result",
    response_class=Response,
    responses={
        200: {"content": {"application/zip": {}}},
        206: {"content": {"application/zip": {}}},
        307: {"description": "The ZIP is at `Location`, for a short time. Do not send your token there."},
    },
)
def download_result(
    user: CurrentUser,
    job_id: JobId,
    request: Request,
    context: Ctx,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range_: Annotated[str | None, Header(alias="If-Range")] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The ZIP; `Range`, `If-Range` and `If-None-Match` work. Or the way to it, where the server does not send it."""
    job = context.queries.finished(user.user_id, job_id)
    assert job.result_size is not None
    headers = _zip_headers(job)
    if none_match(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return _whole(context, job, headers, head=True)
    if elsewhere := _elsewhere(context, job, headers["Content-Disposition"]):
        return elsewhere
    try:
        wanted = parse_range(range_, job.result_size) if if_range(if_range_, headers["ETag"]) else None
    except RangeNotSatisfiable as error:
        refused = {"Content-Range": f"bytes */{job.result_size}"}
        return problem(error.status, error.code, error.message, headers=refused)
    return _part(context, job, headers, wanted) if wanted else _whole(context, job, headers)


@router.get("/manifest", response_class=Response, responses={200: {"content": {"application/json": {}}}})
def show_manifest(user: CurrentUser, job_id: JobId, context: Ctx, if_none_match: IfNoneMatch = None) -> Response:
    """The manifest in the ZIP: source, options, warnings and every frame."""
    job = context.queries.finished(user.user_id, job_id)
    headers = _private(f'"{job.result_sha256}-manifest"', "private, no-cache")
    if none_match(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(read_manifest(job, context.storage), headers=headers, media_type="application/json")


@router.get(
    "/frames/{number}",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in _MEDIA_TYPES.values()}}},
)
def show_frame(
    user: CurrentUser,
    job_id: JobId,
    number: Annotated[int, Path(description="Counted from 1.")],
    context: Ctx,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One frame."""
    job = context.queries.finished(user.user_id, job_id)
    frame = context.queries.frames(job)[number]
    headers = _private(f'"{frame.sha256}"', _FRAME_CACHE)
    if none_match(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    assert job.result_key is not None
    image = b"".join(context.storage.read(job.result_key, frame.offset, frame.offset + frame.size))
    return Response(image, headers=headers, media_type=_MEDIA_TYPES[context.queries.image_format(job)])


def _private(etag: str, cache: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": cache, "X-Content-Type-Options": "nosniff"}


def _zip_headers(job: Job) -> dict[str, str]:
    assert job.result_sha256 is not None
    digest = base64.b64encode(bytes.fromhex(job.result_sha256)).decode()
    return _private(f'"{job.result_sha256}"', "private, no-cache") | {
        "Accept-Ranges": "bytes",
        "X-Checksum-Sha256": job.result_sha256,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": attachment(f"{stem(job.video_name)}.zip"),
    }


def _elsewhere(context: Context, job: Job, disposition: str) -> Response | None:
    """The way to the store itself, which answers ranges as well; nobody may keep it, since it is a key of its own."""
    assert job.result_key is not None
    if not context.presign:
        return None
    url = context.storage.address(job.result_key, context.presign, disposition=disposition, media_type=_ZIP)
    return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"}) if url else None


def _whole(context: Context, job: Job, headers: dict[str, str], *, head: bool = False) -> Response:
    assert job.result_key is not None
    headers = headers | {"Content-Length": str(job.result_size)}
    if head:
        return Response(headers=headers, media_type=_ZIP)
    return StreamingResponse(context.storage.read(job.result_key), 200, headers, _ZIP)


def _part(context: Context, job: Job, headers: dict[str, str], wanted: tuple[int, int]) -> Response:
    assert job.result_key is not None
    start, end = wanted
    headers = headers | {
        "Content-Length": str(end - start),
        "Content-Range": f"bytes {start}-{end - 1}/{job.result_size}",
    }
    return StreamingResponse(context.storage.read(job.result_key, start, end), 206, headers, _ZIP)
