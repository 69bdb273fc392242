"""Request bodies of uploads: raw, or multipart/form-data with option fields before or after the file."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request
from starlette.exceptions import HTTPException

from fiapx.core.errors import InvalidRequest, PayloadTooLarge
from fiapx.server.processing.api.context import Context
from fiapx.server.processing.commands import Accepted
from fiapx.server.processing.model import NewVideo, video_key
from fiapx.server.processing.multipart import Field, FileStart, FormParser
from fiapx.server.processing.names import clean_name, disposition_name
from fiapx.server.processing.receive import Upload, receiving

_FORM_SLACK: Final = 1024 * 1024
_MAX_JSON: Final = 1024 * 1024


@dataclass
class Declared:
    """What a request says about its upload. `size` is None while nobody knows it."""

    name: str = "video"
    size: int | None = None
    fields: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    """Nothing more can be declared."""


Check = Callable[[Declared], Awaitable[Accepted | None]]
"""Called before the file's bytes are read, and again before they are stored for good: raises what is wrong with the
declaration, or returns what an earlier request with the same Idempotency-Key made."""


@dataclass(frozen=True)
class Received:
    """A stored object that waits for its row."""

    video: NewVideo
    fields: dict[str, str]


def media_type(request: Request) -> str:
    """The content type, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(expected: str) -> HTTPException:
    """415: the body is of another kind."""
    return HTTPException(415, f"Send {expected}.")


async def receive(request: Request, context: Context, check: Check) -> Received | Accepted:
    """Store the request's file. Whatever goes wrong, nothing stays behind."""
    form = media_type(request) == "multipart/form-data"
    declared_length = content_length(request)
    if declared_length is not None and declared_length > context.max_upload_bytes + (_FORM_SLACK if form else 0):
        raise PayloadTooLarge
    return await (_receive_form if form else _receive_raw)(request, context, check)


async def read_json(request: Request) -> bytes:
    """A small body. Raises PayloadTooLarge."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_JSON:
            raise PayloadTooLarge("The request is too large.")
    return bytes(body)


def content_length(request: Request) -> int | None:
    """The declared length of the body; None if it is chunked."""
    value = request.headers.get("content-length", "")
    return int(value) if value.isdecimal() and len(value) <= 20 else None


async def _receive_raw(request: Request, context: Context, check: Check) -> Received | Accepted:
    name = request.query_params.get("name") or disposition_name(request.headers.get("content-disposition"))
    declared = Declared(clean_name(name or ""), content_length(request), complete=True)
    if accepted := await check(declared):
        return accepted
    video_id = str(uuid.uuid4())
    async with receiving(context.storage, video_key(video_id), context.max_upload_bytes) as upload:
        async for chunk in request.stream():
            await upload.feed(chunk)
        return await _finish(upload, video_id, declared, check)


async def _receive_form(request: Request, context: Context, check: Check) -> Received | Accepted:
    parser = FormParser(request.headers["content-type"])
    declared = Declared()
    video_id = str(uuid.uuid4())
    upload: Upload | None = None
    async with AsyncExitStack() as stack:
        async for chunk in request.stream():
            for item in parser.feed(chunk):
                if isinstance(item, Field):
                    _add_field(declared.fields, item)
                elif isinstance(item, FileStart):
                    if upload is not None:
                        raise InvalidRequest("file: one file a request, please")
                    _declare_file(declared, item, content_length(request), parser.tail)
                    if accepted := await check(declared):
                        return accepted
                    receiver = receiving(context.storage, video_key(video_id), context.max_upload_bytes)
                    upload = await stack.enter_async_context(receiver)
                elif upload is not None:
                    await upload.feed(item)
        parser.finish()
        if upload is None:
            raise InvalidRequest("file: missing")
        return await _finish(upload, video_id, declared, check)


def _add_field(fields: dict[str, str], item: Field) -> None:
    if item.name in fields:
        raise InvalidRequest(f"{item.name[:64]}: given twice")
    fields[item.name] = item.value


def _declare_file(declared: Declared, start: FileStart, length: int | None, tail: int) -> None:
    """Should the file be the last part, then its size follows from the length of the body."""
    declared.name = clean_name(start.filename)
    declared.size = length - start.offset - tail if length is not None else None


async def _finish(upload: Upload, video_id: str, declared: Declared, check: Check) -> Received | Accepted:
    declared.size, declared.complete = upload.size, True
    if upload.size and (accepted := await check(declared)):
        return accepted
    sha256 = await upload.finish()
    return Received(NewVideo(video_id, declared.name, upload.size, sha256), declared.fields)


def body_schema(*contents: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """`openapi_extra` for a route that reads its body itself."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in contents}}}
