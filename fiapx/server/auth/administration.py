"""What administrators do with others' accounts. Knows neither HTTP nor SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from fiapx.core.errors import Forbidden, NotFound
from fiapx.core.ports import Identity
from fiapx.server.auth.service import User, login_name

log = structlog.get_logger(__name__)

Role = Literal["user", "admin"]
"""What an account may do. Things of other users stay private before administrators, too."""


@dataclass(frozen=True)
class Change:
    """An account as it is now, whether it was another before, and the ids of the sessions that ended with that."""

    user: User
    changed: bool = False
    ended: Collection[str] = ()


class Directory(Protocol):
    """What administration needs of a database; the contract is in `SqlDirectory`."""

    def user(self, user_id: str) -> User | None: ...
    def user_by_email(self, email: str) -> User | None: ...
    def page(self, search: str, after: str, limit: int) -> list[User]: ...
    def disable(self, user_id: str) -> Change: ...
    def enable(self, user_id: str) -> Change: ...
    def set_role(self, user_id: str, role: Role) -> Change: ...


class Administration:
    """Lists accounts, shuts them out, and says who else is an administrator. The last one cannot be shut out.

    `by` is for the log: the id of whoever asks. `on_ended` is told the ids of sessions after their end was committed.
    """

    def __init__(
        self, directory: Directory, *, on_ended: Callable[[Collection[str]], object] = lambda _session_ids: None
    ) -> None:
        self._directory = directory
        self._on_ended = on_ended

    def require_admin(self, identity: Identity) -> None:
        """Raises Forbidden. The database decides, since a token may be older than the role."""
        user = self._directory.user(identity.user_id)
        if user is None or user.role != "admin" or user.disabled_ms is not None:
            raise Forbidden

    def users(self, search: str = "", after: str = "", limit: int = 50) -> list[User]:
        """Accounts whose address has `search` in it, in order of their addresses, from the one that follows `after`."""
        return self._directory.page(search, after, limit)

    def found(self, email: str) -> User:
        """The account with this address. Raises NotFound."""
        user = self._directory.user_by_email(login_name(email))
        if user is None:
            raise NotFound("There is no account with this address.")
        return user

    def disable(self, user_id: str, by: str) -> User:
        """Shut an account out: its sessions end, and it can open no new ones. Its jobs go on.

        Raises NotFound and LastAdmin.
        """
        return self._done(self._directory.disable(user_id), "user_disabled", by)

    def enable(self, user_id: str, by: str) -> User:
        """Let an account log in again. Raises NotFound."""
        return self._done(self._directory.enable(user_id), "user_enabled", by)

    def set_role(self, user_id: str, role: Role, by: str) -> User:
        """Also ends the account's sessions, whose tokens tell the old role. Raises NotFound and LastAdmin."""
        return self._done(self._directory.set_role(user_id, role), "user_role_changed", by)

    def _done(self, change: Change, event: str, by: str) -> User:
        if change.changed:
            log.info(event, user_id=change.user.id, role=change.user.role, by=by)
            self._on_ended(change.ended)
        return change.user
