"""Which headers go on to the other side, and which belong to one connection alone (RFC 9110, 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from asgi_correlation_id import correlation_id
from opentelemetry import propagate
from starlette.datastructures import Headers
from starlette.types import Scope

from fiapx.server.forwarded import client_address

Pairs = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"x-request-id"}
)
_SERVERS: Final = frozenset({b"date", b"server", b"x-request-id"})
"""The gateway's own server sets these."""

_TRACE: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})


def body_size(scope: Scope) -> int | None:
    """Bytes of a request's body; None where the client does not say."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return None
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() else None


def for_service(scope: Scope) -> Pairs:
    """The headers of a request, with those by which a service learns who asks, and of what host.

    Whatever a client says of itself is dropped: `scope` holds what is believed.
    """
    headers = [pair for pair in _end_to_end(scope["headers"]) if pair[0] not in _OURS]
    if body_size(scope) is None:
        headers.append((b"transfer-encoding", b"chunked"))
    host = Headers(scope=scope).get("host", "").encode("latin-1")
    headers += [
        (b"x-forwarded-for", client_address(scope).encode()),
        (b"x-forwarded-proto", scope["scheme"].encode()),
        (b"x-forwarded-host", host),
        (b"x-request-id", (correlation_id.get() or "").encode()),
    ]
    return [(name, value) for name, value in headers if value or not name.startswith(b"x-")]


def go_on_with_trace(headers: Pairs) -> Pairs:
    """With the current span as the one that caused the request; outside of a trace a client's own word passes."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if not carrier:
        return headers
    others = [pair for pair in headers if pair[0] not in _TRACE]
    return others + [(name.encode(), value.encode("latin-1")) for name, value in carrier.items()]


def for_client(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """The headers of an answer."""
    return [pair for pair in _end_to_end(headers) if pair[0] not in _SERVERS]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    pairs = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in pairs if name == b"connection" for word in value.split(b",")}
    return [pair for pair in pairs if pair[0] not in _HOP_BY_HOP and pair[0] not in named]
