"""Who may pass. Everything below the API is private unless it is listed here; services verify for themselves again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.core.errors import AuthRequired, FiapxError, NotFound
from fiapx.core.ports import Identity
from fiapx.server.gateway.rates import Count, Rates
from fiapx.server.gateway.strangers import Stranger
from fiapx.server.http import error_response
from fiapx.server.identity import Verifier

API: Final = "/api/v1/"
PUBLIC: Final = frozenset(
    f"{API}{path}"
    for path in (
        "auth/register",
        "auth/token",
        "auth/refresh",
        "auth/.well-known/jwks.json",
        "health/live",
        "health/ready",
        "health/all",
    )
)
"""Paths below the API that need no token. Outside of it there is only what everybody may see."""

CAPABILITIES: Final = ("OPTIONS", f"{API}uploads")
"""What tus clients ask before they know who they are: the one method of a private path that needs no token."""

_THREADS: Final = 16
"""For private routes, and as many for the others: log-ins do not wait behind tokens that cannot be verified. As many
more are for sessions that auth has to be asked about: nobody else waits for auth."""
_PROBES: Final = f"{API}health/"
_IDENTITY: Final = "fiapx.identity"
_NOWHERE: Final = frozenset({"internal", "..", "."})
"""Segments of paths that lead to nothing from outside: what services tell each other, and ways around the table."""


class Gate:
    """Answers 401 to requests of private routes without a good access token, 503 where nobody can tell, and 429 to too
    many of them, good or bad.

    What is behind it finds the caller with `identity_of`. `known`, if there is one, is asked before the verifier: it
    asks auth about no session, and raises Stranger instead.
    """

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier,
        public: Collection[str] = PUBLIC,
        rates: Rates | None = None,
        known: Verifier | None = None,
    ) -> None:
        self._app = app
        self._rates = rates
        self._verifier, self._known = verifier, known or verifier
        self._public = frozenset(public)
        self._private, self._open, self._strange = (CapacityLimiter(_THREADS) for _ in range(3))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        rates = self._rates if path.startswith(API) and not path.startswith(_PROBES) else None
        if self._is_private(scope):
            refusal, count = await self._examine_private(scope, rates)
        elif rates is not None:
            refusal, count = await run_sync(self._examine, scope, rates, self._known, limiter=self._open)
        else:
            refusal, count = self._examine(scope, None, self._known)
        if count is not None:
            send = count.announced(send)
            refusal = refusal if count.allowed else count.refusal()
        answer = self._app if refusal is None else error_response(refusal)
        await answer(scope, receive, send)

    def _is_private(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return path.startswith(API) and path not in self._public and (scope["method"], path) != CAPABILITIES

    async def _examine_private(self, scope: Scope, rates: Rates | None) -> tuple[FiapxError | None, Count | None]:
        try:
            return await run_sync(self._examine, scope, rates, self._known, limiter=self._private)
        except Stranger:
            return await run_sync(self._examine, scope, rates, self._verifier, limiter=self._strange)

    def _examine(self, scope: Scope, rates: Rates | None, verifier: Verifier) -> tuple[FiapxError | None, Count | None]:
        """Why a request may not pass, and where its caller stands: all that may wait for others, in one thread."""
        refusal: FiapxError | None = None
        try:
            scope[_IDENTITY] = self._identify(scope, verifier)
        except FiapxError as error:
            refusal = error
        return refusal, rates.count(scope, identity_of(scope)) if rates is not None else None

    def _identify(self, scope: Scope, verifier: Verifier) -> Identity | None:
        path: str = scope["path"]
        if not _NOWHERE.isdisjoint(path.lower().split("/")):
            raise NotFound("There is no such thing here.")
        if not self._is_private(scope):
            return None
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AuthRequired
        return verifier.verify(token.strip())


def identity_of(scope: Scope) -> Identity | None:
    """The caller, once the gate has let a request of a private route through."""
    found: Identity | None = scope.get(_IDENTITY)
    return found
