"""What people can do with accounts and sessions. Knows neither HTTP nor SQL."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from email_validator import EmailNotValidError, validate_email

from fiapx.core.errors import InvalidCredentials, InvalidRequest, InvalidToken, Unavailable
from fiapx.core.ports import Identity
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.passwords import Passwords, require_strong
from fiapx.server.outbox import Outbox
from fiapx.server.ratelimit import AuthLimiter

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class AuthPolicy:
    """Times are in seconds. `refresh_grace`: how long after its first use a refresh token may be used again."""

    bcrypt_rounds: int = 12
    access_ttl: int = 900
    refresh_ttl: int = 30 * 24 * 3600
    refresh_grace: float = 10


@dataclass(frozen=True)
class User:
    """An account. Times are in milliseconds since 1970; `disabled_ms` is None for one that can log in."""

    id: str
    email: str
    password_hash: str
    role: str
    created_ms: int
    disabled_ms: int | None = None


@dataclass(frozen=True)
class TokenPair:
    """What a log-in or a refresh gives: a signed access token and an opaque refresh token for the next pair."""

    access_token: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True)
class Replayed:
    """A refresh token was used a second time: this session has ended with it."""

    session_id: str


class Store(Protocol):
    """What the service needs of a database; the contract is in `AuthStore`."""

    outbox: Outbox

    def add_user(self, email: str, password_hash: str) -> User: ...
    def user(self, user_id: str) -> User | None: ...
    def user_by_email(self, email: str) -> User | None: ...
    def change_password(self, user: User, password_hash: str, keep_session: str) -> list[str]: ...
    def change_email(self, user: User, email: str) -> tuple[User, list[str]]: ...
    def delete_user(self, user: User) -> list[str]: ...
    def open_session(self, user: User, token_hash: str, ttl: int) -> Identity: ...
    def rotate(self, token_hash: str, new_hash: str, ttl: int, grace: float) -> Identity | Replayed | None: ...
    def end_session(self, session_id: str) -> None: ...
    def session_active(self, session_id: str) -> bool: ...


class AuthService:
    """Registers, logs in and out, and knows which sessions are live (the `Sessions` port).

    `on_ended` is told the ids of sessions after their end was committed, and `on_opened` each one's after its beginning
    was; what does not reach them changes nothing here.
    """

    def __init__(
        self,
        store: Store,
        keys: SigningKeys,
        policy: AuthPolicy,
        limiter: AuthLimiter,
        *,
        on_ended: Callable[[Collection[str]], object] = lambda _session_ids: None,
    ) -> None:
        self._on_ended = on_ended
        self.on_opened: Callable[[str], object] = lambda _session_id: None
        """Set afterwards: the cache that is told asks this service."""
        self._store = store
        self._keys = keys
        self._policy = policy
        self._limiter = limiter
        self._passwords = Passwords(policy.bcrypt_rounds)

    @property
    def outbox(self) -> Outbox:
        return self._store.outbox

    def jwks(self) -> dict[str, Any]:
        """The public keys that verify access tokens."""
        return self._keys.jwks()

    def active(self, session_id: str, _token: str = "") -> bool:
        """Whether a session is still good: logged in, and its user neither deleted nor disabled."""
        return self._store.session_active(session_id)

    def register(self, email: str, password: str, address: str) -> User:
        """Raises RateLimited, InvalidRequest, WeakPassword or EmailTaken; the last costs as much time as success."""
        self._limiter.registering(address)
        email = _normal_email(email)
        require_strong(password, email)
        return self._store.add_user(email, self._passwords.hash(password))

    def login(self, email: str, password: str, address: str) -> TokenPair:
        """Open a session. Raises InvalidCredentials, or RateLimited after too many failures."""
        account = login_name(email)
        user = self._store.user_by_email(account)
        self._confirm(user, account, password, address)
        if user is None:
            raise InvalidCredentials
        refresh = _new_token()
        identity = self._store.open_session(user, _hash(refresh), self._policy.refresh_ttl)
        with suppress(Unavailable):  # the session is open: whoever wants to know will ask
            self.on_opened(identity.session_id)
        return self._pair(identity, refresh)

    def refresh(self, token: str) -> TokenPair:
        """Exchange a refresh token for a new pair. Raises InvalidToken; replaying an old one ends the session."""
        fresh = _new_token()
        identity = self._store.rotate(_hash(token), _hash(fresh), self._policy.refresh_ttl, self._policy.refresh_grace)
        if isinstance(identity, Replayed):
            self._on_ended([identity.session_id])
            raise InvalidToken
        if identity is None:
            raise InvalidToken
        return self._pair(identity, fresh)

    def logout(self, identity: Identity) -> None:
        """End the session; its access tokens are refused from now on."""
        self._store.end_session(identity.session_id)
        self._on_ended([identity.session_id])

    def account(self, identity: Identity) -> User:
        """The caller's account. Raises InvalidToken when it was deleted a moment ago."""
        user = self._store.user(identity.user_id)
        if user is None:
            raise InvalidToken
        return user

    def change_password(self, identity: Identity, current: str, new: str, address: str) -> None:
        """Also ends the account's other sessions. Raises InvalidCredentials, RateLimited or WeakPassword."""
        user = self.account(identity)
        self._confirm(user, user.email, current, address)
        require_strong(new, user.email)
        self._on_ended(self._store.change_password(user, self._passwords.hash(new), identity.session_id))

    def delete_account(self, identity: Identity, password: str, address: str) -> None:
        """Delete the account and its sessions, and tell the other services. Raises as above, and LastAdmin."""
        user = self.account(identity)
        self._confirm(user, user.email, password, address)
        self._on_ended(self._store.delete_user(user))

    def change_email(self, identity: Identity, email: str, password: str, address: str) -> User:
        """Change the address, and end all sessions: their tokens tell the old one.

        Counts as asking for an account, since it says which addresses are taken. Raises RateLimited, InvalidRequest,
        InvalidCredentials or EmailTaken.
        """
        self._limiter.registering(address)
        email = _normal_email(email)
        user = self.account(identity)
        self._confirm(user, user.email, password, address)
        changed, ended = self._store.change_email(user, email)
        log.info("email_changed", user_id=user.id)
        self._on_ended(ended)
        return changed

    def _confirm(self, user: User | None, account: str, password: str, address: str) -> None:
        """The limiter is asked again afterwards: guesses made in parallel have all passed it the first time."""
        self._limiter.check(account, address)
        if not self._passwords.verify(password, user.password_hash if user else None):
            self._limiter.failed(account, address)
            raise InvalidCredentials
        self._limiter.check(account, address)

    def _pair(self, identity: Identity, refresh: str) -> TokenPair:
        ttl = self._policy.access_ttl
        return TokenPair(self._keys.access_token(identity, ttl), refresh, ttl)


def _normal_email(email: str) -> str:
    try:
        return validate_email(email.strip(), check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise InvalidRequest(f"email: {error}") from None


def login_name(email: str) -> str:
    """The address as it was stored; nobody's for one that could not have been registered."""
    try:
        return _normal_email(email)
    except InvalidRequest:
        return ""


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8")).hexdigest()
