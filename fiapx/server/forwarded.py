"""Where a request really comes from, when it comes through others."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.core.errors import UsageError

_Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address


def client_address(scope: Scope) -> str:
    """Whom limits, logs and services take for the client."""
    return str(scope["client"][0]) if scope.get("client") else "unknown"


def networks(trusted: Iterable[str]) -> tuple[_Network, ...]:
    """Addresses and CIDRs. Raises UsageError."""
    try:
        return tuple(ip_network(text, strict=False) for text in trusted)
    except ValueError as error:
        raise UsageError(f"A trusted proxy is an address or a network such as 10.0.0.0/8: {error}.") from None


class ForwardedFor:
    """Takes the client's address and scheme from ``X-Forwarded-For`` and ``-Proto``, if the peer is trusted.

    For the gateway behind proxies, and for services behind the gateway. Of several addresses the last one counts that
    is not itself a trusted proxy's: whatever stands before it, the client may have invented.
    """

    def __init__(self, app: ASGIApp, trusted: Iterable[str]) -> None:
        """`trusted` are addresses and CIDRs. Raises UsageError."""
        self._app = app
        self._trusted = networks(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client") and self._trusts(scope["client"][0]):
            scope = {**scope, **self._told(scope)}
        await self._app(scope, receive, send)

    def _told(self, scope: Scope) -> Scope:
        headers = Headers(scope=scope)
        told: Scope = {}
        forwarded = [word.strip() for line in headers.getlist("x-forwarded-for") for word in line.split(",")]
        client = self._client(forwarded)
        if client is not None:
            told["client"] = (client, 0)
        scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        if scheme in {"http", "https"}:
            told["scheme"] = scheme
        return told

    def _client(self, forwarded: list[str]) -> str | None:
        found = None
        for text in reversed(forwarded):
            address = _parse(text)
            if address is None:
                return found
            found = str(address)
            if not self._trusts(found):
                return found
        return found

    def _trusts(self, text: str) -> bool:
        address = _parse(text)
        return address is not None and any(address in network for network in self._trusted)


def _parse(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
