"""Accounts, sessions and keys, on a real SQLite file."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, text, update

from fiapx.core.errors import (
    EmailTaken,
    InvalidCredentials,
    InvalidRequest,
    InvalidToken,
    RateLimited,
    UsageError,
    WeakPassword,
)
from fiapx.core.ports import Identity
from fiapx.server.auth import tables
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService, TokenPair
from fiapx.server.auth.store import AuthStore
from fiapx.server.identity import Verifier
from fiapx.server.ratelimit import AuthLimiter
from fiapx.server.sql import now_ms
from tests.postgres import Databases

PASSWORD = "correct horse battery"
EMAIL = "ana@example.com"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def engine(databases: Databases) -> Engine:
    return databases("auth")


def build(
    engine: Engine, *, login_rate: str = "10/minute", register_rate: str = "60/minute", **policy: float
) -> AuthService:
    chosen = dataclasses.replace(AuthPolicy(bcrypt_rounds=4), **policy)  # type: ignore[arg-type]
    store = AuthStore(engine)
    return AuthService(store, SigningKeys(store, "secret"), chosen, AuthLimiter(login_rate, register_rate))


@pytest.fixture
def service(engine: Engine) -> AuthService:
    return build(engine)


def verify(service: AuthService, tokens: TokenPair) -> Identity:
    return Verifier(service.jwks, service).verify(tokens.access_token)


def test_migrations_give_the_declared_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_registered_user_logs_in_whatever_the_case_of_the_address(service: AuthService) -> None:
    user = service.register("  Ana@Example.com", PASSWORD, HOME)
    identity = verify(service, service.login("ANA@example.COM", PASSWORD, HOME))
    assert (identity.user_id, identity.email, identity.role) == (user.id, EMAIL, "user")
    assert user.password_hash.startswith("$2b$04$")
    with pytest.raises(EmailTaken):
        service.register("aNa@example.com", PASSWORD, HOME)


@pytest.mark.parametrize(
    "email", ["", "ana", "ana@", "@example.com", "a b@example.com", "a@b.co\r\nBcc: x@y.zz", "a@b\x00.co"]
)
def test_what_is_no_address_is_refused(service: AuthService, email: str) -> None:
    with pytest.raises(InvalidRequest):
        service.register(email, PASSWORD, HOME)
    with pytest.raises(InvalidCredentials):
        service.login(email, PASSWORD, HOME)


@pytest.mark.parametrize(
    "password", ["", "short", "password", "aaaaaaaaaaaa", "ana@example.com", "😀" * 64, "x" * 1025]
)
def test_weak_passwords_are_refused(service: AuthService, password: str) -> None:
    with pytest.raises(WeakPassword):
        service.register(EMAIL, password, HOME)


def test_a_weak_password_comes_with_advice(service: AuthService) -> None:
    with pytest.raises(WeakPassword) as caught:
        service.register(EMAIL, "password", HOME)
    assert "another word" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "password",
    ["".join(chr(0x1F600 + i * 37 % 64) for i in range(64)), "plum tree " * 7 + "xyz", "nul\x00byte and more of it"],
)
def test_no_password_is_cut_short(service: AuthService, password: str) -> None:
    service.register(EMAIL, password, HOME)
    service.login(EMAIL, password, HOME)
    cut = {password[:-1], password.partition("\x00")[0], password.encode()[:72].decode(errors="ignore")} - {password}
    for shorter in cut:
        with pytest.raises(InvalidCredentials):
            service.login(EMAIL, shorter, ELSEWHERE)


def test_unknown_and_known_addresses_cost_one_bcrypt_each(
    service: AuthService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    calls: list[bytes] = []
    real_check, real_hash = bcrypt.checkpw, bcrypt.hashpw

    def check(password: bytes, hashed: bytes) -> bool:
        calls.append(hashed[:7])
        return real_check(password, hashed)

    def hash_(password: bytes, salt: bytes) -> bytes:
        calls.append(salt[:7])
        return real_hash(password, salt)

    monkeypatch.setattr(bcrypt, "checkpw", check)
    monkeypatch.setattr(bcrypt, "hashpw", hash_)
    for email in (EMAIL, "nobody@example.com"):
        with pytest.raises(InvalidCredentials):
            service.login(email, "wrong password", HOME)
    service.register("bob@example.com", PASSWORD, HOME)
    with pytest.raises(EmailTaken):
        service.register(EMAIL, PASSWORD, HOME)
    assert calls == [b"$2b$04$"] * 4


def test_tokens_are_stored_as_digests_only(service: AuthService, engine: Engine) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    token = service.login(EMAIL, PASSWORD, HOME).refresh_token
    with engine.connect() as connection:
        stored = connection.execute(select(tables.refresh_tokens.c.token_hash)).scalars().all()
    assert stored == [hashlib.sha256(token.encode()).hexdigest()]


def test_a_refresh_rotates_within_the_same_session(service: AuthService) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    first = service.login(EMAIL, PASSWORD, HOME)
    second = service.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert verify(service, second) == verify(service, first)


def test_replaying_a_used_token_ends_the_session(service: AuthService, engine: Engine) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    first = service.login(EMAIL, PASSWORD, HOME)
    other = service.login(EMAIL, PASSWORD, HOME)
    second = service.refresh(first.refresh_token)
    with engine.begin() as connection:  # the grace is over
        connection.execute(update(tables.refresh_tokens).values(used_ms=tables.refresh_tokens.c.used_ms - 10_001))
    for token in (first.refresh_token, second.refresh_token):
        with pytest.raises(InvalidToken):
            service.refresh(token)
    with pytest.raises(InvalidToken):
        verify(service, second)
    verify(service, service.refresh(other.refresh_token))


def test_refreshes_at_the_same_moment_do_not_log_the_user_out(service: AuthService) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    token = service.login(EMAIL, PASSWORD, HOME).refresh_token
    barrier = threading.Barrier(10)

    def refresh() -> TokenPair:
        barrier.wait()
        return service.refresh(token)

    with ThreadPoolExecutor(10) as pool:
        pairs = [future.result() for future in [pool.submit(refresh) for _ in range(10)]]
    assert len({pair.refresh_token for pair in pairs}) == 10
    for pair in pairs:
        verify(service, service.refresh(pair.refresh_token))


def test_an_expired_refresh_token_is_refused_and_forgotten(service: AuthService, engine: Engine) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    token = service.login(EMAIL, PASSWORD, HOME).refresh_token
    with engine.begin() as connection:
        for table in (tables.refresh_tokens, tables.sessions):
            connection.execute(update(table).values(expires_ms=now_ms() - 1))
    with pytest.raises(InvalidToken):
        service.refresh(token)
    service.login(EMAIL, PASSWORD, HOME)
    with engine.connect() as connection:
        assert len(connection.execute(select(tables.refresh_tokens)).all()) == 1
        assert len(connection.execute(select(tables.sessions)).all()) == 1


@pytest.mark.parametrize("token", ["", "unknown", "ü" * 100])
def test_an_unknown_refresh_token_is_refused(service: AuthService, token: str) -> None:
    with pytest.raises(InvalidToken):
        service.refresh(token)


def test_log_out_ends_this_session_alone(service: AuthService) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    here, there = service.login(EMAIL, PASSWORD, HOME), service.login(EMAIL, PASSWORD, HOME)
    service.logout(verify(service, here))
    with pytest.raises(InvalidToken):
        verify(service, here)
    with pytest.raises(InvalidToken):
        service.refresh(here.refresh_token)
    verify(service, there)


def test_a_disabled_user_is_out_at_once(service: AuthService, engine: Engine) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    tokens = service.login(EMAIL, PASSWORD, HOME)
    with engine.begin() as connection:
        connection.execute(update(tables.users).values(disabled_ms=now_ms()))
    with pytest.raises(InvalidToken):
        verify(service, tokens)
    with pytest.raises(InvalidToken):
        service.refresh(tokens.refresh_token)
    with pytest.raises(InvalidCredentials):
        service.login(EMAIL, PASSWORD, HOME)


def test_a_new_password_ends_the_other_sessions(service: AuthService) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    here, there = service.login(EMAIL, PASSWORD, HOME), service.login(EMAIL, PASSWORD, HOME)
    identity = verify(service, here)
    with pytest.raises(InvalidCredentials):
        service.change_password(identity, "not the password", "another good one", HOME)
    with pytest.raises(WeakPassword):
        service.change_password(identity, PASSWORD, "12345678", HOME)
    service.change_password(identity, PASSWORD, "another good one", HOME)
    verify(service, service.refresh(here.refresh_token))
    with pytest.raises(InvalidToken):
        verify(service, there)
    with pytest.raises(InvalidCredentials):
        service.login(EMAIL, PASSWORD, HOME)
    service.login(EMAIL, "another good one", HOME)


def test_a_log_in_that_overlaps_a_password_change_opens_no_session(service: AuthService, engine: Engine) -> None:
    read_before = service.register(EMAIL, PASSWORD, HOME)
    service.change_password(verify(service, service.login(EMAIL, PASSWORD, HOME)), PASSWORD, "another good one", HOME)
    with pytest.raises(InvalidCredentials):
        AuthStore(engine).open_session(read_before, "hash", 60)


def test_a_deleted_account_is_gone_and_reported_once(service: AuthService, engine: Engine) -> None:
    user = service.register(EMAIL, PASSWORD, HOME)
    tokens = service.login(EMAIL, PASSWORD, HOME)
    identity = verify(service, tokens)
    with pytest.raises(InvalidCredentials):
        service.delete_account(identity, "not the password", HOME)
    service.delete_account(identity, PASSWORD, HOME)
    with pytest.raises(InvalidToken):
        verify(service, tokens)
    with pytest.raises(InvalidToken):
        service.account(identity)
    with engine.connect() as connection:
        events = connection.execute(select(tables.outbox.c.type, tables.outbox.c.subject)).all()
        assert [tuple(event) for event in events] == [("user.deleted", user.id)]
        for name in ("users", "sessions", "refresh_tokens"):
            assert connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() == 0
    service.register(EMAIL, PASSWORD, HOME)


def test_guessing_is_limited_for_the_guesser_but_not_for_the_owner(engine: Engine) -> None:
    service = build(engine, login_rate="3/minute")
    service.register(EMAIL, PASSWORD, HOME)
    for _ in range(5):
        service.login(EMAIL, PASSWORD, HOME)  # successes do not count
    for _ in range(3):
        with pytest.raises(InvalidCredentials):
            service.login(EMAIL, "wrong password", ELSEWHERE)
    with pytest.raises(RateLimited) as caught:
        service.login(EMAIL, PASSWORD, ELSEWHERE)
    assert 1 <= caught.value.retry_after <= 61
    service.login(EMAIL, PASSWORD, HOME)


def test_guessing_over_many_accounts_is_limited_by_address(engine: Engine) -> None:
    service = build(engine, login_rate="1/minute")
    for number in range(10):
        with pytest.raises(InvalidCredentials):
            service.login(f"user{number}@example.com", "wrong password", ELSEWHERE)
    with pytest.raises(RateLimited):
        service.login("user11@example.com", "wrong password", ELSEWHERE)


def test_new_accounts_are_limited_by_address(engine: Engine) -> None:
    service = build(engine, register_rate="2/minute")
    service.register("one@example.com", PASSWORD, ELSEWHERE)
    with pytest.raises(EmailTaken):  # who asks whether somebody has an account is counted as well
        service.register("one@example.com", PASSWORD, ELSEWHERE)
    with pytest.raises(RateLimited) as caught:
        service.register("two@example.com", PASSWORD, ELSEWHERE)
    assert 1 <= caught.value.retry_after <= 61
    service.register("two@example.com", PASSWORD, HOME)


def test_parallel_guesses_learn_no_more_than_the_limit(engine: Engine) -> None:
    service = build(engine, login_rate="3/minute")
    service.register(EMAIL, PASSWORD, HOME)
    limiter = service._limiter
    limiter.check(EMAIL, HOME)  # this guess has passed the first check when the others fail
    for _ in range(3):
        limiter.failed(EMAIL, HOME)
    limiter_check, first = limiter.check, iter([True])

    def check(account: str, address: str) -> None:
        if not next(first, False):
            limiter_check(account, address)

    limiter.check = check  # type: ignore[method-assign]
    with pytest.raises(RateLimited):
        service.login(EMAIL, PASSWORD, HOME)


def test_keys_survive_a_restart_and_need_the_same_secret(service: AuthService, engine: Engine) -> None:
    service.register(EMAIL, PASSWORD, HOME)
    tokens = service.login(EMAIL, PASSWORD, HOME)
    restarted = build(engine)
    assert restarted.jwks() == service.jwks()
    verify(restarted, tokens)
    with pytest.raises(UsageError, match="another secret key") as caught:
        SigningKeys(AuthStore(engine), "another secret")
    assert caught.value.__suppress_context__


def test_two_first_starts_agree_on_one_key(engine: Engine) -> None:
    stores = [AuthStore(engine), AuthStore(engine)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda store: SigningKeys(store, "secret").jwks(), stores)
    assert first == second
    assert len(first["keys"]) == 1


def test_the_key_set_is_public_and_the_private_half_is_encrypted(service: AuthService, engine: Engine) -> None:
    (key,) = service.jwks()["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"
    }  # fmt: skip
    assert "d" not in key
    with engine.connect() as connection:
        stored = connection.execute(select(tables.signing_keys.c.private_key)).scalar_one()
    assert stored.startswith("gAAAA")  # a Fernet token
