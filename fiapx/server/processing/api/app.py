"""The ASGI application of processing."""

from __future__ import annotations

from threading import Event

from fastapi import FastAPI

from fiapx.core.ports import Storage
from fiapx.server.http import create_app
from fiapx.server.identity import Verifier
from fiapx.server.processing.api import events, jobs, results, videos
from fiapx.server.processing.api import uploads as uploads_api
from fiapx.server.processing.api.context import Context
from fiapx.server.processing.api.tus import MethodOverride
from fiapx.server.processing.commands import Commands
from fiapx.server.processing.queries import Queries
from fiapx.server.processing.uploads.receive import Finisher
from fiapx.server.processing.uploads.service import Uploads
from fiapx.server.tus import TusHeaders


def create_processing_app(
    commands: Commands,
    queries: Queries,
    uploads: Uploads,
    storage: Storage,
    verifier: Verifier,
    *,
    max_upload_bytes: int,
    draining: Event,
    presign: float = 0,
) -> FastAPI:
    """Serves ``/videos``, ``/uploads`` and ``/jobs``, to be mounted at ``/api/v1``. Set `draining` to end event
    streams.

    With `presign`, clients are sent to the storage's own address of a ZIP, if it has one, for so many seconds.
    """
    app = create_app("fiapx processing")
    app.state.verifier = verifier
    app.state.context = Context(
        commands, queries, uploads, Finisher(uploads), storage, max_upload_bytes, draining, presign
    )
    for module in (videos, uploads_api, jobs, events, results):
        app.include_router(module.router)
    for middleware in (MethodOverride, TusHeaders):
        app.add_middleware(middleware, prefix=uploads_api.router.prefix)
    return app
