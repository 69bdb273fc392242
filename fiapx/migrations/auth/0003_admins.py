"""Administrators are looked for whenever one leaves."""

from __future__ import annotations

from alembic import op

revision = "auth_0003"
down_revision = "auth_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_users_role", "users", ["role"])
