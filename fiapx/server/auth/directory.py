"""Auth's database, as administrators change it: each method is one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from fiapx.core.errors import NotFound
from fiapx.server.auth.administration import Change, Role
from fiapx.server.auth.service import User
from fiapx.server.auth.store import Accounts, end_sessions, leave_an_admin, user_of
from fiapx.server.auth.tables import sessions, users
from fiapx.server.sql import now_ms


class SqlDirectory(Accounts):
    """All accounts. An account that is as it should be already is left alone."""

    def page(self, search: str, after: str, limit: int) -> list[User]:
        """Walks the index of addresses; an empty `search` or `after` leaves nothing out."""
        which = users.c.email.contains(search.lower(), autoescape=True)
        query = select(users).where(which, users.c.email > after).order_by(users.c.email).limit(limit)
        with self._read.connect() as connection:
            return [user_of(row) for row in connection.execute(query)]

    def disable(self, user_id: str) -> Change:
        """Raises NotFound and LastAdmin."""
        with self._engine.begin() as connection:
            leave_an_admin(connection, user_id)
            user = _locked(connection, user_id)
            if user.disabled_ms is not None:
                return Change(user)
            return _change(connection, user_id, disabled_ms=now_ms())

    def enable(self, user_id: str) -> Change:
        """Raises NotFound."""
        with self._engine.begin() as connection:
            user = _locked(connection, user_id)
            return Change(user) if user.disabled_ms is None else _change(connection, user_id, disabled_ms=None)

    def set_role(self, user_id: str, role: Role) -> Change:
        """Raises NotFound and LastAdmin."""
        with self._engine.begin() as connection:
            if role != "admin":
                leave_an_admin(connection, user_id)
            user = _locked(connection, user_id)
            return Change(user) if user.role == role else _change(connection, user_id, role=role)


def _locked(connection: Connection, user_id: str) -> User:
    row = connection.execute(select(users).where(users.c.id == user_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound
    return user_of(row)


def _change(connection: Connection, user_id: str, **values: Any) -> Change:
    connection.execute(update(users).where(users.c.id == user_id).values(**values))
    ended = end_sessions(connection, sessions.c.user_id == user_id)
    return Change(_locked(connection, user_id), True, ended)
