"""Uploads that can be resumed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0007"
down_revision = "processing_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.Text()),
        sa.Column("fresh", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("offset", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("epoch", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("job_id", sa.Text()),
        sa.Column("touched_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger()),
    )
    op.create_index("ix_uploads_user", "uploads", ["user_id"])
    op.create_index("ix_uploads_touched", "uploads", ["touched_ms"])


def downgrade() -> None:
    op.drop_table("uploads")
