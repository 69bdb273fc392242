"""Who is asking? Every service verifies each request itself, with auth's public keys alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Annotated, Any, Final

import jwt
from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from fiapx.core.errors import AuthRequired, InvalidToken, Unavailable
from fiapx.core.ports import Identity, Sessions

ALGORITHM: Final = "EdDSA"
ISSUER: Final = "fiapx-auth"
AUDIENCE: Final = "fiapx"
REQUIRED_CLAIMS: Final = ["exp", "iat", "iss", "aud", "sub", "sid", "email", "typ"]


LOGIN: Final = OAuth2PasswordBearer("/api/v1/auth/token", scheme_name="login", auto_error=False)
"""For OpenAPI: which operations need a token, and where the documentation page gets one."""


class KeySet:
    """Auth's public keys by id. An unknown id is looked for with `fetch`, though not within `pause` seconds of the last
    look: ids that somebody made up cost auth nothing. While auth is away, known keys stay good."""

    def __init__(self, fetch: Callable[[], dict[str, Any]], pause: float) -> None:
        self._fetch = fetch
        self._pause = pause
        self._lock = Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._next_look = float("-inf")
        self._failure: Unavailable | None = None

    def key(self, kid: str) -> jwt.PyJWK:
        """Raises InvalidToken for an id that auth does not have, and Unavailable where auth does not say."""
        if kid not in self._keys:
            with self._lock:
                if kid not in self._keys and time.monotonic() >= self._next_look:
                    self._look()
                if kid not in self._keys:
                    raise InvalidToken if self._failure is None else Unavailable(self._failure.message)
        return self._keys[kid]

    def _look(self) -> None:
        try:
            self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(self._fetch()).keys if key.key_id}
            self._failure = None
        except Unavailable as failure:
            self._failure = failure
        finally:
            self._next_look = time.monotonic() + self._pause


class Verifier:
    """Verifies access tokens. `jwks` returns auth's key set; it is asked again for an unknown key id, at most once in
    `pause` seconds."""

    def __init__(self, jwks: Callable[[], dict[str, Any]], sessions: Sessions, pause: float = 2.0) -> None:
        self._keys = KeySet(jwks, pause)
        self._sessions = sessions

    def verify(self, token: str) -> Identity:
        """The identity in a good access token of a live session.

        Raises InvalidToken, whatever is wrong with it, and Unavailable where auth is needed and away.
        """
        try:
            claims = jwt.decode(
                token,
                self._key(jwt.get_unverified_header(token)),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": REQUIRED_CLAIMS},
            )
        except jwt.PyJWTError:
            raise InvalidToken from None
        if claims["typ"] != "access" or not self._sessions.active(claims["sid"], token):
            raise InvalidToken
        return Identity(claims["sub"], claims["email"], claims["sid"], claims.get("role", "user"))

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise InvalidToken
        return self._keys.key(kid)


def current_user(request: Request, _documented: Annotated[str | None, Depends(LOGIN)] = None) -> Identity:
    """FastAPI dependency: the caller, from ``Authorization: Bearer``. Needs ``app.state.verifier``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthRequired
    verifier: Verifier = request.app.state.verifier
    return verifier.verify(token.strip())


CurrentUser = Annotated[Identity, Depends(current_user)]
