"""Passwords: how good one must be, and how it is stored."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import bcrypt

from fiapx.core.errors import WeakPassword

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 1024

_JUDGED: Final = 32
"""Characters that zxcvbn sees. Its search explodes with length: 72 hand-picked ones took three seconds."""


def require_strong(password: str, email: str) -> None:
    """Raise WeakPassword for a password that is short or among the first an attacker would try."""
    if len(password) < MIN_LENGTH:
        raise WeakPassword(f"The password needs at least {MIN_LENGTH} characters.")
    if len(password) > MAX_LENGTH:
        raise WeakPassword(f"The password may have at most {MAX_LENGTH} characters.")
    from zxcvbn import zxcvbn  # 13 MB of words, which the other roles can do without

    verdict = zxcvbn(password[:_JUDGED], user_inputs=[email, email.partition("@")[0]])
    if verdict["score"] == 0:
        raise WeakPassword(hint=" ".join(verdict["feedback"]["suggestions"]) or None)


class Passwords:
    """bcrypt over base64(SHA-256(password)), so that neither length nor NUL bytes cut a password short."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._nobody = bcrypt.gensalt(rounds) + b"." * 31

    def hash(self, password: str) -> str:
        """A salted hash, ``$2b$…``."""
        return bcrypt.hashpw(_digest(password), bcrypt.gensalt(self._rounds)).decode("ascii")

    def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password is right. Without a hash (no such user) it costs the same, and is wrong."""
        known = self._nobody if hashed is None else hashed.encode("ascii")
        return bcrypt.checkpw(_digest(password), known) and hashed is not None


def _digest(password: str) -> bytes:
    return base64.b64encode(hashlib.sha256(password.encode("utf-8")).digest())
