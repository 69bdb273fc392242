"""Downloads that the server has an object store send."""

from __future__ import annotations

from typing import Final

import httpx

from fiapx.cli.problems import transport_errors
from fiapx.core.errors import FiapxError, Unavailable

_KEPT: Final = ("accept-encoding", "range", "user-agent")
"""Headers for the store. Its ETag is another, so `If-Range` would have it begin anew; no token leaves for it."""


def sent_elsewhere(response: httpx.Response) -> bool:
    """Whether this is the way to an answer, instead of one."""
    return response.status_code == httpx.codes.TEMPORARY_REDIRECT and "location" in response.headers


def follow(response: httpx.Response, client: httpx.Client) -> httpx.Response:
    """The store's answer, whose body flows; `client` has no token. One step: stores answer by themselves.

    An address that is no good any more is Unavailable: the server gives a new one. Raises FiapxError for one that would
    take a download off an encrypted connection.
    """
    request = response.request
    url = _address(request.url, response.headers["location"])
    headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
    timeout = httpx.Timeout(**request.extensions["timeout"])
    with transport_errors():
        answer = client.send(client.build_request("GET", url, headers=headers, timeout=timeout), stream=True)
    if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        answer.close()
        raise Unavailable(f"{url.scheme}://{url.netloc.decode()} answered {answer.status_code}")
    return answer


def _address(server: httpx.URL, location: str) -> httpx.URL:
    try:
        url = server.join(location)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise FiapxError("the server sends downloads to what is no web address")
    if server.scheme == "https" and url.scheme == "http":
        raise FiapxError("the server sends downloads over plain HTTP", hint="Its FIAPX_S3_PUBLIC_ENDPOINT needs https.")
    return url
