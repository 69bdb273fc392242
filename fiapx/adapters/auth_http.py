"""Auth, where it runs elsewhere: its keys, and which sessions are good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import httpx
import structlog
from opentelemetry import propagate

from fiapx.core.circuit import Circuit
from fiapx.core.errors import Unavailable

log = structlog.get_logger(__name__)

_JWKS: Final = "/api/v1/auth/.well-known/jwks.json"
_SESSION: Final = "/api/v1/auth/session"
_AWAY: Final = "The auth service does not answer."


class AuthClient:
    """The Sessions port over HTTP. `urls` are the instances of auth: where one does not answer within `timeout`
    seconds, or not well, the next is asked, and stays the first to be asked. `circuit` opens when none of them does, so
    that not everybody waits for all of them."""

    def __init__(self, urls: Sequence[str], timeout: float = 2.0, circuit: Circuit | None = None) -> None:
        self._circuit = circuit or Circuit("auth service")
        self._urls = [url.rstrip("/") for url in urls]
        self._first = 0
        self._client = httpx.Client(timeout=timeout, trust_env=False, event_hooks={"request": [_go_on_with_the_trace]})

    def jwks(self) -> dict[str, Any]:
        """The public keys that verify access tokens. Raises Unavailable."""
        answer = self._get(_JWKS)
        try:
            keys: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError):
            raise Unavailable(_AWAY) from None
        return keys

    def active(self, session_id: str, token: str) -> bool:
        """Whether the session of this access token is good. Raises Unavailable."""
        del session_id  # the token names it, and auth believes nothing else
        answer = self._get(_SESSION, token)
        if answer.status_code not in (httpx.codes.NO_CONTENT, httpx.codes.UNAUTHORIZED):
            raise Unavailable(_AWAY)
        return answer.status_code == httpx.codes.NO_CONTENT

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with self._circuit.call():
            return self._ask(path, headers)

    def _ask(self, path: str, headers: dict[str, str]) -> httpx.Response:
        first = self._first
        for number in range(first, first + len(self._urls)):
            url = self._urls[number % len(self._urls)]
            try:
                answer = self._client.get(url + path, headers=headers)
            except httpx.TransportError as error:
                log.warning("auth_not_reached", url=url, error=repr(error))
                continue
            if not answer.is_server_error:
                self._first = number % len(self._urls)
                return answer
        raise Unavailable(_AWAY)


def _go_on_with_the_trace(request: httpx.Request) -> None:
    propagate.inject(request.headers)
