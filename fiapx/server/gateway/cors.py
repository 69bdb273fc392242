"""Which other web pages may use the API from a browser."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_TOLD: Final = (
    "Accept-Ranges",
    "Age",
    "Cache-Status",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Fiapx-Job-Id",
    "Fiapx-Video-Id",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-Request-ID",
)
"""Headers that a page's script may read."""


class Cors(CORSMiddleware):
    """Pages of these origins, and no others. Tokens travel in a header, so cookies are never allowed."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_methods=_METHODS,
            allow_headers=("*",),
            expose_headers=_TOLD,
            max_age=3600,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """204, whose headers tell a browser what it may do."""
        found = super().preflight_response(request_headers)
        answer = Response(status_code=204)
        answer.headers["Vary"] = "Origin"
        if found.status_code == 200:
            for name, value in found.headers.items():
                if name.startswith("access-control-"):
                    answer.headers[name] = value
        return answer
