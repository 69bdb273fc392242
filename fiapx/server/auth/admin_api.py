"""Administrators' routes, relative to ``/api/v1/auth``. Everybody else gets the same 403 from all of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel

from fiapx.core.errors import NotFound
from fiapx.core.ports import Identity
from fiapx.server.auth.administration import Administration, Role
from fiapx.server.auth.views import AccountPage, ManagedAccount, managed_view
from fiapx.server.identity import CurrentUser


class RoleChange(BaseModel):
    role: Role


async def _administration(request: Request) -> Administration:
    administration: Administration = request.app.state.administration
    return administration


Administrating = Annotated[Administration, Depends(_administration)]


def _admin(user: CurrentUser, administration: Administrating) -> Identity:
    administration.require_admin(user)
    return user


async def _user_id(user_id: Annotated[str, Path()]) -> str:
    if not user_id.isprintable():  # no id of ours, and PostgreSQL takes no NUL
        raise NotFound
    return user_id


Admin = Annotated[Identity, Depends(_admin)]
UserId = Annotated[str, Depends(_user_id)]
Text = Annotated[str, Query(max_length=320, pattern=r"^[^\x00]*$")]

router = APIRouter(prefix="/users", tags=["administration"])


@router.get("")
def list_users(
    admin: Admin,
    administration: Administrating,
    search: Text = "",
    cursor: Text = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AccountPage:
    """Accounts in order of their addresses; all, or those whose address has `search` in it."""
    del admin
    found = administration.users(search, cursor, limit + 1)
    following = found[limit - 1].email if len(found) > limit else None
    return AccountPage(items=[managed_view(user) for user in found[:limit]], next_cursor=following)


@router.post("/{user_id}/disable")
def disable_user(admin: Admin, user_id: UserId, administration: Administrating) -> ManagedAccount:
    """Shut an account out; its sessions end at once."""
    return managed_view(administration.disable(user_id, admin.user_id))


@router.post("/{user_id}/enable")
def enable_user(admin: Admin, user_id: UserId, administration: Administrating) -> ManagedAccount:
    """Let an account log in again."""
    return managed_view(administration.enable(user_id, admin.user_id))


@router.post("/{user_id}/role")
def change_role(admin: Admin, user_id: UserId, body: RoleChange, administration: Administrating) -> ManagedAccount:
    """Make an account an administrator's, or an ordinary one again; its sessions end at once."""
    return managed_view(administration.set_role(user_id, body.role, admin.user_id))
