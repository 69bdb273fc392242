"""A number for each user that every write raises."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0004"
down_revision = "processing_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "user_versions",
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("user_versions")
