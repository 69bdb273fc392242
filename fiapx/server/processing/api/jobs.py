"""Routes of jobs."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fiapx.core.errors import InvalidOptions, InvalidRequest
from fiapx.core.jobs import JobState
from fiapx.core.options import ExtractOptions, explain, extract_options
from fiapx.core.ports import Identity
from fiapx.server.identity import CurrentUser
from fiapx.server.processing.api.context import (
    Context,
    Ctx,
    CursorParam,
    IdempotencyKey,
    JobId,
    Limit,
    created,
    may_be_kept,
    once,
)
from fiapx.server.processing.api.intake import Declared, body_schema, media_type, read_json, receive, unsupported
from fiapx.server.processing.api.videos import BINARY, replayed
from fiapx.server.processing.commands import Accepted, fingerprint
from fiapx.server.processing.model import Once
from fiapx.server.processing.views import JobPage, JobView
from fiapx.server.processing.warming import PAGE

router = APIRouter(prefix="/jobs", tags=["jobs"])


Fresh = Annotated[
    bool, Field(description="Do the work even if an identical job of yours has a result, which is taken otherwise.")
]
_FRESH: TypeAdapter[bool] = TypeAdapter(Fresh)


class JobRequest(BaseModel):
    """A job for a video that was uploaded before."""

    model_config = ConfigDict(extra="forbid")

    video_id: str
    options: ExtractOptions = ExtractOptions()
    fresh: Fresh = False


def _form_schema() -> dict[str, Any]:
    options = ExtractOptions.model_json_schema()["properties"]
    fresh = {**_FRESH.json_schema(), "default": False}
    return {"type": "object", "properties": {**options, "fresh": fresh, "file": BINARY}, "required": ["file"]}


def _json_schema() -> dict[str, Any]:
    schema = JobRequest.model_json_schema()
    schema["properties"]["options"] = schema.pop("$defs")["ExtractOptions"]
    return schema


_BODY = body_schema(("application/json", _json_schema()), ("multipart/form-data", _form_schema()))


@router.post("", status_code=201, openapi_extra=_BODY)
async def create_job(
    request: Request, response: Response, user: CurrentUser, context: Ctx, key: IdempotencyKey = None
) -> JobView:
    """Extract frames from an uploaded video (JSON), or upload a video with options in one request (form).

    The job is completed at once if an identical one of yours has a result: same bytes, name and options.
    """
    kind = media_type(request)
    if kind == "application/json":
        accepted = await _from_json(request, context, user, key)
    elif kind == "multipart/form-data":
        accepted = await _from_form(request, context, user, key)
    else:
        raise unsupported("application/json or multipart/form-data")
    created(response, accepted, f"{request.url.path}/{accepted.id}")
    return await run_sync(context.queries.job, user.user_id, accepted.id)


async def _from_json(request: Request, context: Context, user: Identity, key: str | None) -> Accepted:
    try:
        wanted = JobRequest.model_validate_json(await read_json(request))
    except ValidationError as error:
        in_options = error.errors()[0]["loc"][:1] == ("options",)
        raise (InvalidOptions if in_options else InvalidRequest)(explain(error)) from None
    mark = once(key, fingerprint("POST /jobs", wanted.video_id, wanted.options.model_dump_json(), wanted.fresh))
    create = partial(context.commands.create_job, fresh=wanted.fresh)
    return await run_sync(create, user, wanted.video_id, wanted.options, mark)


async def _from_form(request: Request, context: Context, user: Identity, key: str | None) -> Accepted:
    def identified(fields: dict[str, str], name: str, size: int | None) -> tuple[ExtractOptions, bool, Once | None]:
        options, fresh = _from_fields(**fields)
        return options, fresh, once(key, fingerprint("POST /jobs", options.model_dump_json(), name, size, fresh))

    async def check(declared: Declared) -> Accepted | None:
        _, _, mark = identified(declared.fields, declared.name, declared.size)
        if accepted := await replayed(context, user, declared, mark):
            return accepted
        await run_sync(context.commands.admit, user)
        return None

    got = await receive(request, context, check)
    if isinstance(got, Accepted):
        return got
    options, fresh, mark = identified(got.fields, got.video.name, got.video.size)
    return await run_sync(partial(context.commands.accept_upload, fresh=fresh), user, got.video, options, mark)


def _from_fields(*, fresh: str = "false", **options: str) -> tuple[ExtractOptions, bool]:
    try:
        return extract_options(**options), _FRESH.validate_python(fresh)
    except ValidationError:
        raise InvalidRequest("fresh: must be true or false") from None


@router.get("")
def list_jobs(
    response: Response,
    user: CurrentUser,
    context: Ctx,
    state: Annotated[JobState | None, Query()] = None,
    cursor: CursorParam = None,
    limit: Limit = PAGE,
) -> JobPage:
    """Your jobs, newest first."""
    page = context.queries.jobs(user.user_id, state, cursor, limit)
    if all(job.state is not JobState.RUNNING for job in page.items):  # progress is no write
        may_be_kept(response, context.queries.ttls.jobs)
    return page


@router.get("/{job_id}")
def show_job(response: Response, user: CurrentUser, job_id: JobId, context: Ctx) -> JobView:
    """One job, with its place in the queue or its live progress."""
    view = context.queries.job(user.user_id, job_id)
    if view.state.terminal:
        may_be_kept(response, context.queries.ttls.jobs)
    return view


@router.post("/{job_id}/cancel")
def cancel_job(user: CurrentUser, job_id: JobId, context: Ctx) -> JobView:
    """End a job that waits or runs."""
    context.commands.cancel(user, job_id)
    return context.queries.job(user.user_id, job_id)


@router.post("/{job_id}/retry", status_code=201)
def retry_job(
    user: CurrentUser, job_id: JobId, request: Request, response: Response, context: Ctx, key: IdempotencyKey = None
) -> JobView:
    """A new job with the video and options of one that has ended; the work is done again."""
    mark = once(key, fingerprint("POST /jobs/retry", job_id))
    accepted = context.commands.retry(user, job_id, mark)
    created(response, accepted, request.url.path.replace(f"{job_id}/retry", accepted.id))
    return context.queries.job(user.user_id, accepted.id)


@router.delete("/{job_id}", status_code=204, response_class=Response)
def delete_job(user: CurrentUser, job_id: JobId, context: Ctx) -> None:
    """Delete an ended job, and its result unless another job has the same."""
    context.commands.delete_job(user, job_id)
