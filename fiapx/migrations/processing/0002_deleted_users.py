"""Users from whom nothing more is accepted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0002"
down_revision = "processing_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_users",
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("deleted_users")
