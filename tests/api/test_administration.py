"""Administrators over HTTP, and people who change their own address, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event
from structlog.testing import capture_logs

from fiapx.core.errors import LastAdmin
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.identity import Verifier
from fiapx.server.ratelimit import AuthLimiter
from tests.api.test_auth_api import PASSWORD, Api, assert_problem
from tests.postgres import Databases

ROOT, ANA, BOB = "root@example.com", "ana@example.com", "bob_b@example.org"


@pytest.fixture
def engine(databases: Databases) -> Engine:
    return databases("auth")


@pytest.fixture
def administration(engine: Engine) -> Administration:
    return Administration(SqlDirectory(engine))


@pytest.fixture
def api(engine: Engine, administration: Administration) -> Api:
    """With an administrator and two users."""
    store = AuthStore(engine)
    limiter = AuthLimiter("99/minute", "6/minute")
    service = AuthService(store, SigningKeys(store, "secret"), AuthPolicy(bcrypt_rounds=4), limiter)
    api = Api(create_auth_app(service, Verifier(service.jwks, service), administration))
    for email in (ROOT, ANA, BOB):
        assert api("POST", "/register", json={"email": email, "password": PASSWORD}).status_code == 201
    administration.set_role(administration.found(ROOT).id, "admin", "test")
    return api


def token(api: Api, email: str) -> str:
    answer = api("POST", "/token", data={"username": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


@pytest.fixture
def root(api: Api) -> str:
    return token(api, ROOT)


def listed(api: Api, root: str, **query: Any) -> list[str]:
    answer = api("GET", "/users", root, params=query)
    assert answer.status_code == 200, answer.text
    return [user["email"] for user in answer.json()["items"]]


def test_accounts_are_listed_and_searched(api: Api, root: str) -> None:
    assert listed(api, root) == [ANA, BOB, ROOT]
    assert listed(api, root, search="EXAMPLE.org") == [BOB]
    assert listed(api, root, search="b_b") == [BOB]
    assert listed(api, root, search="%") == listed(api, root, search="_a") == []
    assert_problem(api("GET", "/users", root, params={"search": "a\x00"}), 422, "invalid_request")
    assert_problem(api("GET", "/users", root, params={"cursor": "\x00"}), 422, "invalid_request")


def test_pages_follow_each_other(api: Api, root: str) -> None:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api("GET", "/users", root, params={"limit": 1, "cursor": cursor}).json()
        found += [user["email"] for user in page["items"]]
        cursor = page["next_cursor"]
    assert found == [ANA, BOB, ROOT]


def test_a_disabled_account_is_out_until_it_is_enabled(api: Api, root: str, administration: Administration) -> None:
    ana, path = token(api, ANA), f"/users/{administration.found(ANA).id}"
    with capture_logs() as logs:
        shut = api("POST", f"{path}/disable", root)
        assert api("POST", f"{path}/disable", root).json() == shut.json()  # again: nothing to do, nothing to log
    assert (shut.status_code, shut.json()["disabled_at"] is None) == (200, False)
    me = administration.found(ROOT).id
    assert [(line["event"], line["by"]) for line in logs] == [("user_disabled", me)]
    assert_problem(api("GET", "/me", ana), 401, "invalid_token")
    known = api("POST", "/token", data={"username": ANA, "password": PASSWORD})
    unknown = api("POST", "/token", data={"username": "nobody@example.com", "password": PASSWORD})
    assert (known.status_code, known.text) == (401, unknown.text)
    assert api("POST", f"{path}/enable", root).json()["disabled_at"] is None
    token(api, ANA)


def test_a_role_counts_from_the_next_request(api: Api, root: str, administration: Administration) -> None:
    path = f"/users/{administration.found(ANA).id}/role"
    assert api("POST", path, root, json={"role": "admin"}).json()["role"] == "admin"
    ana = token(api, ANA)
    assert len(listed(api, ana)) == 3
    assert api("POST", path, root, json={"role": "user"}).json()["role"] == "user"
    assert_problem(api("GET", "/users", ana), 401, "invalid_token")
    assert_problem(api("GET", "/users", token(api, ANA)), 403, "forbidden")
    assert_problem(api("POST", path, root, json={"role": "owner"}), 422, "invalid_request")


def test_a_token_that_is_older_than_the_role_is_no_administrators(
    api: Api, root: str, engine: Engine, administration: Administration
) -> None:
    """As where the cache of sessions could not be told."""
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE users SET role = 'user' WHERE email = 'root@example.com'")
    assert_problem(api("GET", "/users", root), 403, "forbidden")


def test_the_last_administrator_stays(api: Api, root: str, administration: Administration) -> None:
    me, ana = administration.found(ROOT).id, administration.found(ANA).id
    assert_problem(api("POST", f"/users/{me}/disable", root), 409, "last_admin")
    assert_problem(api("POST", f"/users/{me}/role", root, json={"role": "user"}), 409, "last_admin")
    assert_problem(api("DELETE", "/me", root, json={"password": PASSWORD}), 409, "last_admin")
    assert api("GET", "/me", root).status_code == 200  # with its session
    administration.set_role(ana, "admin", "test")
    administration.disable(ana, "test")  # one who cannot log in is of no use
    assert_problem(api("POST", f"/users/{me}/disable", root), 409, "last_admin")
    administration.enable(ana, "test")
    assert api("DELETE", "/me", root, json={"password": PASSWORD}).status_code == 204
    assert [user.email for user in administration.users()] == [ANA, BOB]


def test_two_who_drop_each_other_at_once_leave_one(api: Api, engine: Engine, administration: Administration) -> None:
    pair = [administration.found(email).id for email in (ROOT, ANA)]
    administration.set_role(pair[1], "admin", "test")
    both = threading.Barrier(2)

    def meet(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "WHERE users.role" in statement:
            both.wait(5)

    if engine.dialect.name == "postgresql":  # SQLite has one writer at a time from the beginning
        event.listen(engine, "before_cursor_execute", meet)

    def drop(user_id: str) -> bool:
        try:
            administration.disable(user_id, "test")
        except LastAdmin:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(drop, pair)) == [False, True]


@pytest.mark.parametrize("user_id", ["nobody", "00000000-0000-4000-8000-000000000000", "a%00b", "%F0%9F%98%80"])
def test_what_is_nobody_is_not_found(api: Api, root: str, user_id: str) -> None:
    for path, body in (("disable", None), ("enable", None), ("role", {"role": "user"})):
        assert_problem(api("POST", f"/users/{user_id}/{path}", root, json=body), 404, "not_found")


def change(api: Api, token: str, email: str, password: str = PASSWORD) -> Any:
    return api("PATCH", "/me", token, json={"email": email, "password": password})


def test_a_new_address_ends_all_sessions(api: Api) -> None:
    here, there = token(api, ANA), token(api, ANA)
    with capture_logs() as logs:
        assert change(api, here, " Ana.New@Example.com").json()["email"] == "ana.new@example.com"
    assert [line["event"] for line in logs] == ["email_changed"]
    assert ANA not in str(logs)
    for old in (here, there):
        assert_problem(api("GET", "/me", old), 401, "invalid_token")
    assert_problem(api("POST", "/token", data={"username": ANA, "password": PASSWORD}), 401, "invalid_credentials")
    assert api("GET", "/me", token(api, "ana.new@example.com")).json()["email"] == "ana.new@example.com"


def test_an_address_is_refused_as_at_registration(api: Api) -> None:
    """Three of six tries in this minute are spent on the accounts themselves."""
    ana = token(api, ANA)
    assert_problem(change(api, ana, "free@example.com", "wrong password"), 401, "invalid_credentials")
    assert_problem(change(api, ana, "no address"), 422, "invalid_request")
    assert_problem(change(api, ana, BOB.upper()), 409, "email_taken")
    assert_problem(change(api, ana, BOB), 429, "rate_limited")
    assert api("GET", "/me", ana).json()["email"] == ANA


@pytest.fixture
def statements(engine: Engine) -> Callable[[], int]:
    count: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: count.append(arguments[2]))
    return lambda: len(count)


def test_a_list_costs_as_much_for_many_as_for_one(api: Api, root: str, statements: Callable[[], int]) -> None:
    listed(api, root, limit=1)
    one = statements()
    listed(api, root, limit=200)
    assert statements() == 2 * one
