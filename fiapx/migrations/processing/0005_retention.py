"""What is kept for a time only is found by its age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0005"
down_revision = "processing_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    stored = sa.text("result_key IS NOT NULL")
    op.create_index("ix_jobs_expiry", "jobs", ["finished_ms"], postgresql_where=stored, sqlite_where=stored)
    op.create_index("ix_videos_created", "videos", ["created_ms"])


def downgrade() -> None:
    op.drop_index("ix_videos_created", "videos")
    op.drop_index("ix_jobs_expiry", "jobs")
