"""Accounts as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel

from fiapx.server.auth.service import User


class Account(BaseModel):
    id: str
    email: str
    role: str
    created_at: datetime


class ManagedAccount(Account):
    """As administrators see it. `disabled_at` is null for an account that can log in."""

    disabled_at: datetime | None


class AccountPage(BaseModel):
    """`next_cursor` is null on the last page."""

    items: list[ManagedAccount]
    next_cursor: str | None


def account_view(user: User) -> Account:
    """As its owner sees it."""
    return Account(id=user.id, email=user.email, role=user.role, created_at=_when(user.created_ms))


def managed_view(user: User) -> ManagedAccount:
    """As an administrator sees it."""
    disabled = _when(user.disabled_ms) if user.disabled_ms is not None else None
    return ManagedAccount(**account_view(user).model_dump(), disabled_at=disabled)


def _when(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
