"""What clients say of their uploads, and when the last byte of each came. Neither is known of older ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0010"
down_revision = "processing_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("metadata", sa.Text()))
    op.add_column("uploads", sa.Column("full_ms", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("uploads", "full_ms")
    op.drop_column("uploads", "metadata")
