"""Auth and notify search their tables by indexes, however many rows there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from fiapx.adapters.db import Service, migrate, open_database
from fiapx.core.events import JOB_COMPLETED, Event
from fiapx.notify.history import History
from fiapx.notify.store import NotifyStore
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.store import AuthStore
from scripts.servers.postgres import PrivatePostgres
from tests.plans import fill, noted, whole_reads
from tests.postgres import empty

_MANY = int(os.environ.get("FIAPX_ROWS", "50000"))
_AUTH = (
    """INSERT INTO users (id, email, password_hash, role, created_ms)
       SELECT n, n || '@example.com', '', CASE WHEN n < 3 THEN 'admin' ELSE 'user' END, n
       FROM generate_series(1, :many) AS n""",
    """INSERT INTO sessions (id, user_id, created_ms, expires_ms)
       SELECT n, n, n, :now + n FROM generate_series(1, :many) AS n""",
    """INSERT INTO refresh_tokens (token_hash, session_id, expires_ms)
       SELECT n, n, :now + n FROM generate_series(1, :many) AS n""",
)
_NOTIFY = (
    """INSERT INTO deliveries (id, event_id, event_type, recipient, user_id, data, status, attempts, next_attempt_ms,
                               created_ms)
       SELECT n, n, 'job.completed', n % 1000 || '@example.com', n % 1000, '{}', 'sent', 1, n, n
       FROM generate_series(1, :many) AS n""",
    """INSERT INTO delivery_log (delivery_id, attempt, status, started_ms)
       SELECT n, 1, 'sent', n FROM generate_series(1, :many) AS n""",
)


@contextmanager
def filled(server: PrivatePostgres, service: Service, rows: tuple[str, ...]) -> Iterator[Engine]:
    engine = open_database(server.url(service), statement_timeout=300)
    migrate(engine, service)
    empty(engine)
    fill(engine, rows, _MANY)
    try:
        yield engine
    finally:
        empty(engine)
        engine.dispose()


@pytest.mark.timeout(600)
def test_auth_reads_no_whole_table(postgres_server: PrivatePostgres) -> None:
    with filled(postgres_server, "auth", _AUTH) as engine:
        store, accounts = AuthStore(engine), SqlDirectory(engine)
        with noted(engine) as statements:
            user = store.add_user("new@example.com", "hash")
            store.user_by_email("new@example.com")
            store.user(user.id)
            identity = store.open_session(user, "token", 60)
            store.rotate("token", "newer", 60, 0)
            store.session_active(identity.session_id)
            user, _ = store.change_email(user, "newer@example.com")
            store.change_password(user, "other", identity.session_id)
            accounts.page("", "", 50)
            accounts.set_role(user.id, "admin")
            accounts.set_role(user.id, "user")
            accounts.disable(user.id)
            accounts.enable(user.id)
            store.end_session(identity.session_id)
            changed = store.user(user.id)
            assert changed is not None
            store.delete_user(changed)
        assert len(statements) > 20
        assert whole_reads(engine, statements, ("users", "sessions", "refresh_tokens", "outbox")) == []


@pytest.mark.timeout(600)
def test_notify_reads_no_whole_table(postgres_server: PrivatePostgres) -> None:
    with filled(postgres_server, "notify", _NOTIFY) as engine:
        store, history = NotifyStore(engine), History(engine)
        news = Event(id="e", type=JOB_COMPLETED, subject="job", created_ms=0, data={"user_id": "u"})
        with noted(engine) as statements:
            store.add(news, "new@example.com")
            delivery = store.claim(60)
            assert delivery is not None
            store.postpone(delivery, 60, "later")
            store.finish(delivery, "sent")
            store.forget_user("u")
            history.mails(limit=50)
            history.mails(state="failed", limit=50)
            history.mails(recipient="7@example.com", limit=50)
        assert len(statements) > 10
        assert whole_reads(engine, statements, ("deliveries", "delivery_log")) == []
