"""What a server, or the lack of one, says, in the words of our own tree of errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from fiapx.core.errors import (
    AuthRequired,
    Conflict,
    FiapxError,
    Forbidden,
    NoSpace,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    UsageError,
    error_class,
)

_BY_STATUS: dict[int, type[FiapxError]] = {
    400: UsageError,
    401: AuthRequired,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    422: UsageError,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: NoSpace,
}
LOGIN_HINT = "Run `fiapx login EMAIL`, or set FIAPX_TOKEN."


class RemoteError(FiapxError):
    """The server reports an error that this version has no class for, or a job's own failure."""

    code = "remote_error"

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reported_code = code


class Unreachable(Unavailable):
    """No connection to the server: it has not even seen the request."""


def job_error(job: dict[str, Any]) -> RemoteError | None:
    """Why an ended job has no result; None for one that has."""
    if job["state"] == "failed":
        error = job.get("error") or {}
        code = str(error.get("code") or "failed")
        return RemoteError(code, f"the job failed: {error.get('message') or 'no reason was given'} ({code})")
    if job["state"] == "cancelled":
        return RemoteError("cancelled", "the job was cancelled")
    return None


def raise_for_problem(response: httpx.Response) -> None:
    """Raise what an answer of 300 or above means; its body must have been read. 304 is nobody's error."""
    if response.status_code < 300 or response.status_code == 304:
        return
    error = _problem(response)
    setattr(error, "retry_after", retry_after(response))  # noqa: B010 - where retries look for it
    raise error


def _problem(response: httpx.Response) -> FiapxError:
    try:
        body = response.json()
    except ValueError:
        body = None
    by_status = _BY_STATUS.get(response.status_code)
    if isinstance(body, dict) and isinstance(body.get("code"), str):
        detail, hint = str(body.get("detail") or body.get("title") or ""), body.get("hint")
        cls = error_class(body["code"])
        if cls is FiapxError and by_status is None:
            return RemoteError(body["code"], detail, str(hint) if hint else None)
        cls = cls if cls is not FiapxError else by_status or cls
        return cls(detail or None, hint=str(hint) if hint else _hint(cls, response))
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        return FiapxError(f"the server redirects to {where}", hint="Give that address with --server.")
    cls = by_status or FiapxError
    message = f"{_origin(response.request)} answered {response.status_code} {response.reason_phrase}"
    return cls(message, hint=_hint(cls, response))


def _hint(cls: type[FiapxError], response: httpx.Response) -> str | None:
    if issubclass(cls, AuthRequired) and cls.code != "invalid_credentials":
        return LOGIN_HINT
    after = retry_after(response)
    return f"Try again in {after:.0f} s." if after else None


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks us to wait; None if it says nothing, or says it as a date."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None


@contextmanager
def transport_errors() -> Iterator[None]:
    """Translate failures below HTTP."""
    try:
        yield
    except httpx.ConnectError as error:
        origin = _origin(error.request)
        hint = None
        if "CERTIFICATE" in str(error):
            raise FiapxError(f"{origin} has no certificate that this machine trusts") from None
        if "refused" in str(error).lower():
            hint = "Is `fiapx up` running?"
        raise Unreachable(f"cannot reach {origin}", hint=hint) from None
    except httpx.LocalProtocolError:
        raise UsageError("the file changed while it was being sent") from None
    except httpx.TimeoutException as error:
        raise Unavailable(f"{_origin(error.request)} does not answer in time") from None
    except httpx.TransportError as error:
        raise Unavailable(f"{_origin(error.request)} broke the connection") from None
    except httpx.DecodingError as error:
        raise Unavailable(f"{_origin(error.request)} sent an answer that cannot be decoded") from None


def _origin(request: httpx.Request) -> str:
    url = request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
