"""What every service speaks alike: problem+json (RFC 9457) and an application that answers with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fiapx.core.errors import AuthRequired, FiapxError, NoSpace, RateLimited, Unavailable, UploadChecksum
from fiapx.server.sql import AWAY

log = structlog.get_logger(__name__)

PROBES: Final = ("/api/v1/health/", "/metrics")
"""Paths that monitors ask for all the time."""
PROBLEM_JSON = "application/problem+json"
_PG_FULL = "53100"
"""PostgreSQL's disk_full."""


class Problem(BaseModel):
    """The body of every error. `code` is stable; `detail` is for people."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "The request cannot be answered",
        "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}},
    },
}
"""For `responses=` of routers: documents problem+json in OpenAPI."""


def problem(
    status: int, code: str, detail: str, hint: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem+json response."""
    body = Problem(title=_title(status), status=status, detail=detail, code=code, hint=hint)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, media_type=PROBLEM_JSON)


def _title(status: int) -> str:
    """tus has a status of its own."""
    return HTTPStatus(status).phrase if status != UploadChecksum.status else "Checksum Mismatch"


def create_app(
    title: str, *, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> FastAPI:
    """A FastAPI application whose every error is problem+json. Documentation pages belong to the gateway."""
    app = FastAPI(
        title=title,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the target would be on whatever host the client named
        responses=PROBLEM_RESPONSES,
        telemetry={"operation_spans": False, "metrics": False, "logs": False, "exclude": _is_probe},
    )
    app.add_exception_handler(FiapxError, _fiapx_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    for away in AWAY:
        app.add_exception_handler(away, _database_down)
    app.add_exception_handler(Exception, _unexpected)
    return app


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    path: str = scope["path"]
    return path.startswith(PROBES)


def error_response(error: FiapxError) -> Response:
    """The response for an error of our own tree. A 5xx that we did not foresee keeps its message to the log."""
    headers: dict[str, str] = {}
    if isinstance(error, AuthRequired):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimited | Unavailable | NoSpace):
        headers["Retry-After"] = str(getattr(error, "retry_after", 5))
    return problem(error.status, error.code, error.message, error.hint, headers)


async def _fiapx_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FiapxError)
    return error_response(error)


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return problem(422, "invalid_request", f"{where}: {first['msg'].removeprefix('Value error, ')}")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else "There is no such thing here."
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, code, detail if error.status_code == 404 else error.detail, headers=headers)


async def _client_left(_request: Request, _error: Exception) -> Response:
    return problem(400, "client_disconnected", "The request body ended early.")  # nobody reads it; no error of ours


async def _database_down(request: Request, error: Exception) -> Response:
    cause = getattr(error, "orig", error)
    log.error("database_unavailable", path=request.url.path, error=str(cause))
    full = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(cause, "pgcode", None) == _PG_FULL
    return error_response(NoSpace() if full else Unavailable())


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    return problem(500, FiapxError.code, FiapxError().message)
