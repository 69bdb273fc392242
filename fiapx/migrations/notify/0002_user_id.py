"""Whose mail it is, so that it can be forgotten with its user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "notify_0002"
down_revision = "notify_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("user_id", sa.Text()))
    op.create_index("ix_deliveries_user_id", "deliveries", ["user_id"])
