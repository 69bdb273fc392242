"""Videos, jobs, idempotency keys and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "processing_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _videos()
    _jobs()
    _idempotency()
    _outbox()


def downgrade() -> None:
    for table in ("outbox", "idempotency", "jobs", "videos"):
        op.drop_table(table)


def _videos() -> None:
    op.create_table(
        "videos",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_videos_user", "videos", ["user_id", "created_ms", "id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text()),
        sa.Column("video_id", sa.Text(), nullable=False),
        sa.Column("video_name", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("lease_token", sa.Text()),
        sa.Column("lease_until_ms", sa.BigInteger()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("warnings", sa.Text()),
        sa.Column("frames", sa.Integer()),
        sa.Column("engine", sa.Text()),
        sa.Column("result_key", sa.Text()),
        sa.Column("result_size", sa.BigInteger()),
        sa.Column("result_sha256", sa.Text()),
        sa.Column("manifest_offset", sa.BigInteger()),
        sa.Column("manifest_size", sa.BigInteger()),
        sa.Column("retry_of", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_ms", sa.BigInteger()),
        sa.Column("finished_ms", sa.BigInteger()),
    )
    op.create_index("ix_jobs_user", "jobs", ["user_id", "created_ms", "id"])
    op.create_index("ix_jobs_user_state", "jobs", ["user_id", "state", "created_ms", "id"])
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "created_ms"])
    op.create_index("ix_jobs_video", "jobs", ["video_id"])


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key"),
    )
    op.create_index("ix_idempotency_created_ms", "idempotency", ["created_ms"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("published_ms", sa.BigInteger()),
    )
    op.create_index("ix_outbox_published_ms", "outbox", ["published_ms"])
