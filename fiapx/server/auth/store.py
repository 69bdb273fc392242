"""Auth's database: each method is one transaction."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from fiapx.core.errors import EmailTaken, InvalidCredentials, LastAdmin
from fiapx.core.events import USER_DELETED
from fiapx.core.ports import Identity
from fiapx.server.auth.keys import StoredKey
from fiapx.server.auth.service import Replayed, User
from fiapx.server.auth.tables import outbox, refresh_tokens, sessions, signing_keys, users
from fiapx.server.outbox import Outbox
from fiapx.server.sql import ago, now_ms, reader


class Accounts:
    """Users, one by one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read = reader(engine)

    def user(self, user_id: str) -> User | None:
        with self._read.connect() as connection:
            row = connection.execute(select(users).where(users.c.id == user_id)).one_or_none()
        return user_of(row) if row else None

    def user_by_email(self, email: str) -> User | None:
        """`email` as it was stored: in lower case."""
        with self._read.connect() as connection:
            row = connection.execute(select(users).where(users.c.email == email)).one_or_none()
        return user_of(row) if row else None


class AuthStore(Accounts):
    """Users, sessions, refresh tokens (by hash) and signing keys. Times to live are in seconds."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.outbox = Outbox(engine, outbox)

    # --- users ---

    def add_user(self, email: str, password_hash: str) -> User:
        """Raises EmailTaken."""
        values = {"id": str(uuid.uuid4()), "email": email, "password_hash": password_hash, "role": "user"}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(users).values(**values, created_ms=now_ms()))
                return user_of(connection.execute(select(users).where(users.c.id == values["id"])).one())
        except IntegrityError:
            raise EmailTaken from None

    def change_password(self, user: User, password_hash: str, keep_session: str) -> list[str]:
        """Also ends all other sessions, and returns them. Raises InvalidCredentials when the password changed in the
        meantime."""
        with self._engine.begin() as connection:
            same = (users.c.id == user.id) & (users.c.password_hash == user.password_hash)
            if not connection.execute(update(users).where(same).values(password_hash=password_hash)).rowcount:
                raise InvalidCredentials
            return end_sessions(connection, (sessions.c.user_id == user.id) & (sessions.c.id != keep_session))

    def change_email(self, user: User, email: str) -> tuple[User, list[str]]:
        """Also ends all its sessions, and returns them. Raises EmailTaken, and InvalidCredentials as above."""
        same = (users.c.id == user.id) & (users.c.password_hash == user.password_hash)
        try:
            with self._engine.begin() as connection:
                changed = update(users).where(same).values(email=email).returning(*users.c)
                row = connection.execute(changed).one_or_none()
                if row is None:
                    raise InvalidCredentials
                return user_of(row), end_sessions(connection, sessions.c.user_id == user.id)
        except IntegrityError:
            raise EmailTaken from None

    def delete_user(self, user: User) -> list[str]:
        """Also ends its sessions, returns them, and tells the other services.

        Raises InvalidCredentials as above, and LastAdmin.
        """
        with self._engine.begin() as connection:
            leave_an_admin(connection, user.id)
            ended = end_sessions(connection, sessions.c.user_id == user.id)
            same = (users.c.id == user.id) & (users.c.password_hash == user.password_hash)
            if not connection.execute(delete(users).where(same)).rowcount:
                raise InvalidCredentials
            self.outbox.add(connection, USER_DELETED, user.id, {"user_id": user.id})
        return ended

    # --- sessions ---

    def open_session(self, user: User, token_hash: str, ttl: int) -> Identity:
        """Raises InvalidCredentials when the user is disabled, gone, or has another password than when it was read."""
        with self._engine.begin() as connection:
            _forget_expired(connection)
            row = connection.execute(select(users).where(users.c.id == user.id).with_for_update()).one_or_none()
            if row is None or row.disabled_ms is not None or row.password_hash != user.password_hash:
                raise InvalidCredentials
            session_id = str(uuid.uuid4())
            connection.execute(
                insert(sessions).values(
                    id=session_id, user_id=user.id, created_ms=now_ms(), expires_ms=now_ms() + ttl * 1000
                )
            )
            _add_token(connection, session_id, token_hash, ttl)
        return Identity(row.id, row.email, session_id, row.role)

    def rotate(self, token_hash: str, new_hash: str, ttl: int, grace: float) -> Identity | Replayed | None:
        """Exchange a refresh token for a new one of the same session; None when it is no good.

        A token that was used more than `grace` seconds ago has been stolen, from its owner or by its owner's
        successor: its session ends.
        """
        with self._engine.begin() as connection:
            row = connection.execute(_token_and_user(token_hash)).one_or_none()
            if row is None:
                return None
            if row.age_ms is not None and row.age_ms > grace * 1000:
                end_sessions(connection, sessions.c.id == row.session_id)
                return Replayed(row.session_id)
            if row.age_ms is None:
                used = refresh_tokens.c.token_hash == token_hash
                connection.execute(update(refresh_tokens).where(used).values(used_ms=now_ms()))
            _add_token(connection, row.session_id, new_hash, ttl)
            mine = sessions.c.id == row.session_id
            connection.execute(update(sessions).where(mine).values(expires_ms=now_ms() + ttl * 1000))
        return Identity(row.user_id, row.email, row.session_id, row.role)

    def end_session(self, session_id: str) -> None:
        with self._engine.begin() as connection:
            end_sessions(connection, sessions.c.id == session_id)

    def session_active(self, session_id: str) -> bool:
        """Whether the session exists and its user may use it."""
        query = (
            select(sessions.c.id)
            .join(users, users.c.id == sessions.c.user_id)
            .where(sessions.c.id == session_id, users.c.disabled_ms.is_(None))
        )
        with self._read.connect() as connection:
            return connection.execute(query).one_or_none() is not None

    # --- signing keys ---

    def signing_keys(self) -> list[StoredKey]:
        with self._read.connect() as connection:
            rows = connection.execute(select(signing_keys).order_by(signing_keys.c.generation)).all()
        return [StoredKey(row.generation, row.kid, row.private_key) for row in rows]

    def add_signing_key(self, key: StoredKey) -> None:
        """Does nothing where another process has stored this generation first."""
        values = {"generation": key.generation, "kid": key.kid, "private_key": key.private_key}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(signing_keys).values(**values, created_ms=now_ms()))
        except IntegrityError:
            return


def leave_an_admin(connection: Connection, user_id: str) -> None:
    """Raises LastAdmin where nobody but this user can administrate. Two who drop each other wait for one another."""
    admins = (
        select(users.c.id)
        .where(users.c.role == "admin", users.c.disabled_ms.is_(None))
        .order_by(users.c.id)
        .with_for_update()
    )
    if list(connection.scalars(admins)) == [user_id]:
        raise LastAdmin


def end_sessions(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """What is not there is not valid. Returns their ids."""
    return list(connection.scalars(delete(sessions).where(which).returning(sessions.c.id)))


def user_of(row: Row[Any]) -> User:
    """The account in a row of `users`."""
    return User(row.id, row.email, row.password_hash, row.role, row.created_ms, row.disabled_ms)


def _token_and_user(token_hash: str) -> Any:
    """A live token with its session's user, locked; `age_ms` counts from its first use, or is null."""
    return (
        select(
            refresh_tokens.c.session_id,
            (now_ms() - refresh_tokens.c.used_ms).label("age_ms"),
            sessions.c.user_id,
            users.c.email,
            users.c.role,
        )
        .join(sessions, sessions.c.id == refresh_tokens.c.session_id)
        .join(users, users.c.id == sessions.c.user_id)
        .where(
            refresh_tokens.c.token_hash == token_hash,
            refresh_tokens.c.expires_ms > now_ms(),
            users.c.disabled_ms.is_(None),
        )
        .with_for_update()
    )


def _add_token(connection: Connection, session_id: str, token_hash: str, ttl: int) -> None:
    expires = now_ms() + ttl * 1000
    connection.execute(insert(refresh_tokens).values(token_hash=token_hash, session_id=session_id, expires_ms=expires))


def _forget_expired(connection: Connection) -> None:
    """A used token is kept until it expires, so that a replay is recognised; after that it is refused anyway."""
    connection.execute(delete(sessions).where(sessions.c.expires_ms <= ago(0)))
    connection.execute(delete(refresh_tokens).where(refresh_tokens.c.expires_ms <= ago(0)))
