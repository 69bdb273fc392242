"""Notify's tables: one row a mail, and one row each time it was tried."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text

metadata = MetaData()

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("event_type", Text, nullable=False),
    Column("recipient", Text),
    Column("user_id", Text, index=True),
    Column("data", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("traceparent", Text),
    Index("ix_deliveries_due", "status", "next_attempt_ms"),
    Index("ix_deliveries_newest", "created_ms", "id"),
    Index("ix_deliveries_recipient", "recipient", "created_ms"),
)
"""`status`: pending, sent, failed or skipped (nobody to write to). `data` is the event's, as JSON."""

delivery_log = Table(
    "delivery_log",
    metadata,
    Column("delivery_id", Text, ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
)
"""`status`: started (and never ended, after a crash), sent, retry or failed."""
