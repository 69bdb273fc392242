"""Routes of resumable uploads, tus 1.0.0: created with what they are to become, and filled by as many requests as it
takes."""

from __future__ import annotations

import json
from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import TypeAdapter, ValidationError

from fiapx.core.errors import InvalidOptions, InvalidRequest, PayloadTooLarge, UnsupportedFormat
from fiapx.core.options import ExtractOptions, explain
from fiapx.server.identity import CurrentUser
from fiapx.server.processing.api import tus
from fiapx.server.processing.api.context import Context, Ctx, IdempotencyKey, created, existing_id, once
from fiapx.server.processing.api.intake import body_schema, content_length
from fiapx.server.processing.commands import fingerprint
from fiapx.server.processing.names import clean_name
from fiapx.server.processing.uploads.model import NewUpload, Upload
from fiapx.server.processing.uploads.receive import Checksum, receive
from fiapx.server.processing.views import UploadView
from fiapx.server.tus import VERSION

router = APIRouter(prefix="/uploads", tags=["uploads"])

_BODY = body_schema((tus.BODY_TYPE, {"type": "string", "format": "binary"}))
_FLAG: Final = TypeAdapter(bool)


async def _upload_id(upload_id: Annotated[str, Path()]) -> str:
    return existing_id(upload_id)


UploadId = Annotated[str, Depends(_upload_id)]


@router.options("", status_code=204, response_class=Response)
async def show_capabilities(context: Ctx) -> Response:
    """What this server can do, in headers; for everybody."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": tus.EXTENSIONS,
        "Tus-Max-Size": str(context.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
    }
    return Response(status_code=204, headers=headers)


@router.post("", status_code=201, dependencies=[tus.Versioned])
async def create_upload(
    request: Request, response: Response, user: CurrentUser, context: Ctx, key: IdempotencyKey = None
) -> UploadView:
    """Begin an upload of `Upload-Length` bytes, of which a body may bring the first ones.

    `Upload-Metadata` may have `filename`; with `options`, a JSON object as in POST /jobs, a job follows the last byte.
    """
    new = _wanted(request, context.max_upload_bytes)
    body, checksum = tus.has_body(request), tus.checksum(request)
    if body and (content_length(request) or 0) > new.size:
        raise PayloadTooLarge("The body has more bytes than Upload-Length.")
    mark = once(key, fingerprint("POST /uploads", new.name, new.size, new.options, new.fresh))
    upload, accepted = await run_sync(context.uploads.create, user, new, mark)
    created(response, accepted, f"{request.url.path}/{upload.id}")
    if body and not upload.offset:
        claim = await run_sync(context.uploads.store.claim, user.user_id, upload.id, 0)
        upload = await _fill(request, context, claim, checksum)
    _tell(response, context, upload)
    return UploadView.of(upload, context.uploads.store.ttl)


@router.head("/{upload_id}", dependencies=[tus.Versioned], response_class=Response, include_in_schema=False)
async def show_offset(user: CurrentUser, upload_id: UploadId, context: Ctx) -> Response:
    """Where to go on, in `Upload-Offset`, and the `Upload-Metadata` that it was created with.

    Whoever asks is about to write: a request that still does is ended.
    """
    upload = await run_sync(context.uploads.store.claim, user.user_id, upload_id)
    response = Response()
    _tell(response, context, await context.finisher(upload))
    response.headers["Upload-Length"] = str(upload.size)
    if upload.metadata is not None:
        response.headers["Upload-Metadata"] = upload.metadata
    return response


@router.get("/{upload_id}")
def show_upload(user: CurrentUser, upload_id: UploadId, context: Ctx) -> UploadView:
    """How far an upload is, and what it has become."""
    store = context.uploads.store
    return UploadView.of(store.find(user.user_id, upload_id), store.ttl)


@router.patch(
    "/{upload_id}", status_code=204, dependencies=[tus.Versioned], response_class=Response, openapi_extra=_BODY
)
async def append_to_upload(request: Request, user: CurrentUser, upload_id: UploadId, context: Ctx) -> Response:
    """Add the body at `Upload-Offset`. The last byte makes the video, and the job."""
    offset, checksum = tus.upload_offset(request), tus.checksum(request)
    upload = await run_sync(context.uploads.store.find, user.user_id, upload_id)
    if offset + (content_length(request) or 0) > upload.size:
        raise PayloadTooLarge("The upload has fewer bytes, by its Upload-Length.")
    claim = await run_sync(context.uploads.store.claim, user.user_id, upload_id, offset)
    response = Response(status_code=204)
    _tell(response, context, await _fill(request, context, claim, checksum))
    return response


@router.delete("/{upload_id}", status_code=204, dependencies=[tus.Versioned], response_class=Response)
def delete_upload(user: CurrentUser, upload_id: UploadId, context: Ctx) -> None:
    """Delete an upload and what came of it; a video that it has become stays."""
    context.uploads.delete(user, upload_id)


async def _fill(request: Request, context: Context, claim: Upload, checksum: Checksum | None) -> Upload:
    if claim.full:
        return await context.finisher(claim)
    offset, sha256 = await receive(context.uploads, claim, request.stream(), checksum)
    return await context.finisher(claim.at(offset), sha256)


def _wanted(request: Request, most: int) -> NewUpload:
    size = tus.upload_length(request, most)
    if not size:
        raise UnsupportedFormat("The file is empty.")
    header = tus.upload_metadata(request)
    metadata = tus.texts(header)
    name = clean_name(metadata.get("filename") or metadata.get("name") or "")
    options = _options(metadata["options"]) if "options" in metadata else None
    try:
        fresh = _FLAG.validate_python(metadata.get("fresh") or "false")
    except ValidationError:
        raise InvalidRequest("fresh: must be true or false") from None
    return NewUpload(name, size, options.model_dump_json() if options else None, fresh, header or None)


def _options(text: str) -> ExtractOptions:
    try:
        return ExtractOptions.model_validate_json(text or json.dumps({}))
    except ValidationError as error:
        raise InvalidOptions(explain(error)) from None


def _tell(response: Response, context: Context, upload: Upload) -> None:
    """Where the upload is, and what it has become."""
    response.headers["Upload-Offset"] = str(upload.offset)
    if upload.finished:
        response.headers["Fiapx-Video-Id"] = upload.id
        if upload.job_id is not None:
            response.headers["Fiapx-Job-Id"] = upload.job_id
    elif not upload.full:
        expires = upload.touched_ms + int(context.uploads.store.ttl * 1000)
        response.headers["Upload-Expires"] = tus.http_date(expires)
