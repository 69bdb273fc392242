"""Which trace a row belongs to, for those who go on with it later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0008"
down_revision = "processing_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("traceparent", sa.Text()))
    op.add_column("jobs", sa.Column("traceparent", sa.Text()))


def downgrade() -> None:
    op.drop_column("jobs", "traceparent")
    op.drop_column("outbox", "traceparent")
