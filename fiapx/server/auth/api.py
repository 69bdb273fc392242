"""Auth over HTTP, relative to ``/api/v1/auth``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI, Form, Request, Response
from pydantic import BaseModel, Field

from fiapx.core.cores import granted_cores
from fiapx.core.errors import InvalidToken
from fiapx.server.auth import admin_api
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.passwords import MAX_LENGTH
from fiapx.server.auth.service import AuthService, TokenPair
from fiapx.server.auth.views import Account, account_view
from fiapx.server.http import create_app
from fiapx.server.identity import CurrentUser, Verifier

Email = Annotated[str, Field(max_length=320, examples=["ana@example.com"])]
Password = Annotated[str, Field(max_length=MAX_LENGTH)]


class Registration(BaseModel):
    email: Email
    password: Password


class Login(BaseModel):
    """OAuth2's password grant (RFC 6749, 4.3)."""

    grant_type: Literal["password"] = "password"
    username: Email
    password: Password


class Refresh(BaseModel):
    refresh_token: str = Field(max_length=256)


class PasswordChange(BaseModel):
    current_password: Password
    new_password: Password


class EmailChange(BaseModel):
    email: Email
    password: Password


class Confirmation(BaseModel):
    password: Password


class Tokens(BaseModel):
    """`expires_in`: seconds that the access token is good for."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int
    refresh_token: str


async def _service(request: Request) -> AuthService:
    service: AuthService = request.app.state.service
    return service


async def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _hashing(request: Request) -> CapacityLimiter:
    limiter: CapacityLimiter = request.app.state.hashing
    return limiter


Service = Annotated[AuthService, Depends(_service)]
Address = Annotated[str, Depends(_address)]
Hashing = Annotated[CapacityLimiter, Depends(_hashing)]
"""Threads that hash passwords, apart from those that everything else shares: a burst of log-ins would fill these."""

router = APIRouter(tags=["auth"])


@router.post("/register", status_code=201)
async def register(body: Registration, service: Service, address: Address, hashing: Hashing) -> Account:
    """Create an account. How many an address may ask for is limited."""
    return account_view(await run_sync(service.register, body.email, body.password, address, limiter=hashing))


@router.post("/token")
async def token(form: Annotated[Login, Form()], service: Service, address: Address, hashing: Hashing) -> Tokens:
    """Log in. Failed attempts are limited."""
    return _tokens(await run_sync(service.login, form.username, form.password, address, limiter=hashing))


@router.post("/refresh")
def refresh(body: Refresh, service: Service) -> Tokens:
    """Exchange a refresh token for a new pair; each is good once, and using an old one again ends the session."""
    return _tokens(service.refresh(body.refresh_token))


@router.post("/logout", status_code=204, response_class=Response)
def logout(user: CurrentUser, service: Service) -> None:
    """End this session at once."""
    service.logout(user)


@router.get("/session", status_code=204, response_class=Response)
def session(response: Response, user: CurrentUser, service: Service) -> None:
    """Is this session good? The database says so itself: other services ask what their caches do not know."""
    if not service.active(user.session_id):
        raise InvalidToken
    response.headers["Cache-Control"] = "no-store"


@router.get("/me")
def me(user: CurrentUser, service: Service) -> Account:
    """The account that is logged in."""
    return account_view(service.account(user))


@router.patch("/me")
async def change_email(
    body: EmailChange, user: CurrentUser, service: Service, address: Address, hashing: Hashing
) -> Account:
    """Change the address. All sessions end, this one too, since their tokens tell the old one."""
    return account_view(await run_sync(service.change_email, user, body.email, body.password, address, limiter=hashing))


@router.post("/password", status_code=204, response_class=Response)
async def change_password(
    body: PasswordChange, user: CurrentUser, service: Service, address: Address, hashing: Hashing
) -> None:
    """Change the password, and end all other sessions."""
    passwords = body.current_password, body.new_password
    await run_sync(service.change_password, user, *passwords, address, limiter=hashing)


@router.delete("/me", status_code=204, response_class=Response)
async def delete_account(
    body: Confirmation, user: CurrentUser, service: Service, address: Address, hashing: Hashing
) -> None:
    """Delete the account with all its videos and jobs."""
    await run_sync(service.delete_account, user, body.password, address, limiter=hashing)


@router.get("/.well-known/jwks.json")
def jwks(service: Service) -> dict[str, Any]:
    """The public keys that verify access tokens."""
    return service.jwks()


router.include_router(admin_api.router)


def create_auth_app(service: AuthService, verifier: Verifier, administration: Administration) -> FastAPI:
    """The auth service as an ASGI app."""
    app = create_app("fiapx auth")
    app.state.service = service
    app.state.verifier = verifier
    app.state.administration = administration
    app.state.hashing = CapacityLimiter(granted_cores())
    app.include_router(router)
    return app


def _tokens(pair: TokenPair) -> Tokens:
    return Tokens(access_token=pair.access_token, expires_in=pair.expires_in, refresh_token=pair.refresh_token)
