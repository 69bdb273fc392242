"""What makes jobs identical, and who lent a result to whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0003"
down_revision = "processing_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cache_key", sa.Text()))
    op.add_column("jobs", sa.Column("engine_fingerprint", sa.Text()))
    op.add_column("jobs", sa.Column("fresh", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("reused_from", sa.Text()))
    op.create_index("ix_jobs_cache", "jobs", ["user_id", "cache_key"])
    op.create_index("ix_jobs_result", "jobs", ["result_key"])


def downgrade() -> None:
    for index in ("ix_jobs_result", "ix_jobs_cache"):
        op.drop_index(index, "jobs")
    for column in ("reused_from", "fresh", "engine_fingerprint", "cache_key"):
        op.drop_column("jobs", column)
