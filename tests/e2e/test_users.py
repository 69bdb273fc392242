"""`fiapx users` at the server's own machine, and `fiapx email` from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sqlalchemy import Engine

from fiapx.adapters.cache_redis import RedisCache
from fiapx.adapters.db import migrate, open_database
from fiapx.core.errors import InvalidToken
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.identity import Verifier
from fiapx.server.ratelimit import AuthLimiter
from fiapx.server.sessions import CachedSessions
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.redis import PrivateRedis
from tests.e2e.kit import PASSWORD, Account, Server, run
from tests.postgres import Databases, empty

EMAIL = "ada@example.com"


def url(engine: Engine) -> dict[str, str]:
    """The settings that lead to a database; a file is where `fiapx up` keeps it."""
    if engine.dialect.name == "sqlite":
        return {"FIAPX_HOME": str(Path(engine.url.database or "").parent)}
    return {"FIAPX_AUTH_DATABASE_URL": engine.url.set(drivername="postgresql").render_as_string(hide_password=False)}


def service(engine: Engine) -> AuthService:
    store = AuthStore(engine)
    return AuthService(
        store, SigningKeys(store, "secret"), AuthPolicy(bcrypt_rounds=4), AuthLimiter("99/minute", "99/minute")
    )


def told(done: CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_shell_works_on_either_database(databases: Databases, redis: PrivateRedis, tmp_path: Path) -> None:
    engine = databases("auth")
    auth, environ = service(engine), url(engine) | {"FIAPX_REDIS_URL": redis.url}
    cache = RedisCache(redis.url)
    remembering = engine.dialect.name == "postgresql"
    verifier = Verifier(auth.jwks, CachedSessions(cache, auth) if remembering else auth)
    auth.register(EMAIL, PASSWORD, "here")
    token = auth.login(EMAIL, PASSWORD, "here").access_token
    assert verifier.verify(token).role == "user"  # whoever remembers sessions remembers this one now

    admin = told(run(tmp_path, "users", "set-role", "ADA@example.com", "admin", "--json", environ=environ))
    assert (admin["email"], admin["role"], admin["disabled_at"]) == (EMAIL, "admin", None)
    with pytest.raises(InvalidToken):
        verifier.verify(token)
    token = auth.login(EMAIL, PASSWORD, "here").access_token
    assert verifier.verify(token).role == "admin"

    last = run(tmp_path, "users", "disable", EMAIL, "--json", environ=environ)
    assert (last.returncode, json.loads(last.stdout)["error"]["code"]) == (1, "last_admin")
    auth.register("bob@example.com", PASSWORD, "here")
    bob = auth.login("bob@example.com", PASSWORD, "here").access_token
    verifier.verify(bob)
    shut = run(tmp_path, "users", "disable", "bob@example.com", environ=environ)
    assert shut.stdout == "bob@example.com: user, disabled\n"
    assert json.loads(shut.stderr)["event"] == "user_disabled"
    with pytest.raises(InvalidToken):
        verifier.verify(bob)
    rows = run(tmp_path, "users", "list", environ=environ).stdout.splitlines()
    assert [row.split("\t")[:3] for row in rows] == [
        [EMAIL, "admin", "active"],
        ["bob@example.com", "user", "disabled"],
    ]
    assert run(tmp_path, "users", "enable", "bob@example.com", environ=environ).returncode == 0
    auth.login("bob@example.com", PASSWORD, "here")
    cache.close()


def test_a_change_that_the_services_do_not_hear_of_is_told(postgres_server: PrivatePostgres, tmp_path: Path) -> None:
    """Without Redis: `fiapx up` remembers nothing, but the others do."""
    engine = open_database(postgres_server.url("auth"))
    migrate(engine, "auth")
    empty(engine)
    auth = service(engine)
    auth.register(EMAIL, PASSWORD, "here")
    auth.login(EMAIL, PASSWORD, "here")
    done = run(tmp_path, "users", "disable", EMAIL, environ=url(engine))
    engine.dispose()
    assert (done.returncode, done.stdout) == (5, "")
    assert "It is done, but the services could not be told at once." in done.stderr
    assert "Within 60 s" in done.stderr


def test_while_the_server_runs(server: Server, ana: Account, tmp_path: Path) -> None:
    home = {"FIAPX_HOME": str(server.home)}
    assert ana.get("/auth/me")["role"] == "user"
    assert run(tmp_path, "users", "disable", ana.email, environ=home).returncode == 0
    assert ana.request("GET", "/jobs").status_code == 401  # the very next request, in another service
    assert run(tmp_path, "users", "enable", ana.email, "--data", str(server.home)).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list",), "there is no data in"),
        (("set-role", EMAIL, "owner"), "there is no role owner"),
    ],
)
def test_what_cannot_work(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    refused = run(tmp_path, "users", *arguments)
    assert (refused.returncode, message in refused.stderr) == (2, True)


def test_nobody_with_that_address(server: Server, tmp_path: Path) -> None:
    missing = run(tmp_path, "users", "disable", "nobody@example.com", environ={"FIAPX_HOME": str(server.home)})
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "There is no account with this address." in missing.stderr


def test_a_new_address_keeps_the_profile_logged_in(server: Server, ana: Account, tmp_path: Path) -> None:
    environ, new = {"FIAPX_SERVER": server.url}, f"new.{ana.email}"
    assert run(tmp_path, "login", ana.email, "--password-stdin", stdin=PASSWORD, environ=environ).returncode == 0
    wrong = run(tmp_path, "email", new, "--password-stdin", stdin="wrong", environ=environ)
    assert (wrong.returncode, wrong.stdout) == (4, "")
    done = run(tmp_path, "email", new, "--password-stdin", stdin=PASSWORD, environ=environ)
    assert (done.returncode, done.stdout) == (0, f"your address is {new} now\n"), done.stderr
    assert run(tmp_path, "whoami", environ=environ).stdout == f"{new}\n"
    assert ana.request("GET", "/auth/me").status_code == 401
