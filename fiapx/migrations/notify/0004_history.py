"""Operators list the newest mails, of all or of one recipient."""

from __future__ import annotations

from alembic import op

revision = "notify_0004"
down_revision = "notify_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_deliveries_newest", "deliveries", ["created_ms", "id"])
    op.create_index("ix_deliveries_recipient", "deliveries", ["recipient", "created_ms"])
