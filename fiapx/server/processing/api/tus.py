"""The headers of tus 1.0.0, https://tus.io/protocols/resumable-upload."""

from __future__ import annotations

import base64
import binascii
from email.utils import formatdate
from typing import Final

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.core.errors import PayloadTooLarge
from fiapx.server.identity import CurrentUser
from fiapx.server.processing.api.intake import media_type, unsupported
from fiapx.server.processing.uploads.receive import Checksum
from fiapx.server.tus import VERSION, is_below

EXTENSIONS: Final = "creation,creation-with-upload,expiration,termination,checksum"
ALGORITHMS: Final = ("sha256", "sha1", "md5")
BODY_TYPE: Final = "application/offset+octet-stream"

_OVERRIDES: Final = frozenset({"PATCH", "HEAD", "DELETE"})
_MAX_METADATA: Final = 16 * 1024
_MAX_DIGITS: Final = 18


async def _check_version(request: Request, _first: CurrentUser) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise HTTPException(412, f"Send Tus-Resumable: {VERSION}.", headers={"Tus-Version": VERSION})


Versioned = Depends(_check_version)
"""412 for requests of users in another version of the protocol, or in none."""


class MethodOverride:
    """For clients whose network knows GET and POST alone: a POST is what its `X-HTTP-Method-Override` says, as long as
    that is a method of uploads. No other method is ever taken for another one."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_below(self._prefix, scope) and scope["method"] == "POST":
            method = Headers(scope=scope).get("x-http-method-override")
            if method in _OVERRIDES:
                scope = {**scope, "method": method}
        await self._app(scope, receive, send)


def bad_request(what: str) -> HTTPException:
    return HTTPException(400, what)


def upload_length(request: Request, most: int) -> int:
    """Raises 400, PayloadTooLarge."""
    if "upload-defer-length" in request.headers:
        raise bad_request("Upload-Defer-Length: send Upload-Length instead.")
    length = _number(request, "Upload-Length")
    if length > most:
        raise PayloadTooLarge
    return length


def upload_offset(request: Request) -> int:
    """Raises 400, and 415 for a body of another kind."""
    if media_type(request) != BODY_TYPE:
        raise unsupported(BODY_TYPE)
    return _number(request, "Upload-Offset")


def has_body(request: Request) -> bool:
    """A creation may bring the first bytes. Raises 415 for a body of another kind."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return False
    if media_type(request) != BODY_TYPE:
        raise unsupported(BODY_TYPE)
    return True


def upload_metadata(request: Request) -> str:
    """The header as it was sent. Raises 400 for one that is too long."""
    header = ",".join(request.headers.getlist("upload-metadata"))
    if len(header) > _MAX_METADATA:
        raise bad_request("Upload-Metadata: too long.")
    return header


def texts(header: str) -> dict[str, str]:
    """The metadata's values that are text; others, such as somebody's thumbnail, are none of ours. Raises 400."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        if key in seen:
            raise bad_request("Upload-Metadata: a key is given twice.")
        seen.add(key)
        try:
            found[key] = _decoded(value.strip(), "Upload-Metadata").decode()
        except UnicodeDecodeError:
            continue
    return found


def checksum(request: Request) -> Checksum | None:
    """Raises 400."""
    header = request.headers.get("upload-checksum")
    if header is None:
        return None
    algorithm, _, value = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise bad_request(f"Upload-Checksum: the algorithm must be one of {', '.join(ALGORITHMS)}.")
    return Checksum(algorithm, _decoded(value.strip(), "Upload-Checksum"))


def http_date(milliseconds: int) -> str:
    """As in ``Upload-Expires``."""
    return formatdate(milliseconds / 1000, usegmt=True)


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit()) or len(value) > _MAX_DIGITS:
        raise bad_request(f"{header}: must be a number of bytes.")
    return int(value)


def _decoded(value: str, header: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(f"{header}: a value is not Base64.") from None
