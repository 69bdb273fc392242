"""The Ed25519 pairs that sign access tokens. Private halves are stored encrypted, public ones are the JWKS."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fiapx.core.errors import UsageError
from fiapx.core.ports import Identity
from fiapx.server.identity import ALGORITHM, AUDIENCE, ISSUER


@dataclass(frozen=True)
class StoredKey:
    """A key pair as the database holds it: `private_key` is a Fernet token."""

    generation: int
    kid: str
    private_key: str


class KeyStore(Protocol):
    """Where key pairs are kept, in order of their generation."""

    def signing_keys(self) -> list[StoredKey]: ...

    def add_signing_key(self, key: StoredKey) -> None:
        """Store it, unless its generation exists already: whoever came first wins."""
        ...


class SigningKeys:
    """Signs with the newest key, and publishes the public half of each. The first one is made at the first start."""

    def __init__(self, store: KeyStore, secret: str) -> None:
        """Raises UsageError when the stored keys were encrypted with another secret."""
        cipher = Fernet(_derive(secret))
        if not store.signing_keys():
            store.add_signing_key(_new_key(1, cipher))
        self._keys = {key.kid: _open(key, cipher) for key in store.signing_keys()}

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        return {"keys": [_public_jwk(key) for key in self._keys.values()]}

    def access_token(self, identity: Identity, ttl: int) -> str:
        """A signed access token that is good for `ttl` seconds."""
        kid, key = list(self._keys.items())[-1]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + ttl,
            "typ": "access",
            "sub": identity.user_id,
            "sid": identity.session_id,
            "email": identity.email,
            "role": identity.role,
        }
        return jwt.encode(claims, key, ALGORITHM, {"kid": kid})


def _derive(secret: str) -> bytes:
    kdf = HKDF(SHA256(), length=32, salt=None, info=b"fiapx signing keys")
    return base64.urlsafe_b64encode(kdf.derive(secret.encode("utf-8")))


def _new_key(generation: int, cipher: Fernet) -> StoredKey:
    key = Ed25519PrivateKey.generate()
    return StoredKey(generation, _public_jwk(key)["kid"], cipher.encrypt(key.private_bytes_raw()).decode("ascii"))


def _open(stored: StoredKey, cipher: Fernet) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(cipher.decrypt(stored.private_key))
    except InvalidToken:
        raise UsageError(
            "The signing keys in this database were encrypted with another secret key.",
            hint="Start with the FIAPX_SECRET_KEY that was used when the data was created.",
        ) from None


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    """The public half; its id is the RFC 7638 thumbprint."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_key().public_bytes_raw())}
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
    kid = _base64url(hashlib.sha256(canonical.encode("ascii")).digest())
    return {**jwk, "kid": kid, "use": "sig", "alg": ALGORITHM}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
