"""Who is asking? Every service verifies each request itself, with auth's public keys alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import jwt
from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from fiapx.core.errors import AuthRequired, InvalidToken
from fiapx.core.ports import Identity, Sessions

ALGORITHM: Final = "EdDSA"
ISSUER: Final = "fiapx-auth"
AUDIENCE: Final = "fiapx"
REQUIRED_CLAIMS: Final = ["exp", "iat", "iss", "aud", "sub", "sid", "email", "typ"]


LOGIN: Final = OAuth2PasswordBearer("/api/v1/auth/token", scheme_name="login", auto_error=False)
"""For OpenAPI: which operations need a token, and where the documentation page gets one."""


class Verifier:
    """Verifies access tokens. `jwks` returns auth's key set; it is asked again for an unknown key id."""

    def __init__(self, jwks: Callable[[], dict[str, Any]], sessions: Sessions) -> None:
        self._fetch = jwks
        self._sessions = sessions
        self._keys: dict[str, jwt.PyJWK] = {}

    def verify(self, token: str) -> Identity:
        """The identity in a good access token of a live session. Raises InvalidToken, whatever is wrong."""
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
        if kid not in self._keys:
            self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(self._fetch()).keys if key.key_id}
        try:
            return self._keys[kid]
        except KeyError:
            raise InvalidToken from None


def current_user(request: Request, _documented: Annotated[str | None, Depends(LOGIN)] = None) -> Identity:
    """FastAPI dependency: the caller, from ``Authorization: Bearer``. Needs ``app.state.verifier``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthRequired
    verifier: Verifier = request.app.state.verifier
    return verifier.verify(token.strip())


CurrentUser = Annotated[Identity, Depends(current_user)]
