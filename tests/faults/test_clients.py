"""Clients who mean ill, or leave at the wrong moment, against the installed command."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from tests.e2e.kit import PASSWORD, Account, Server
from tests.processing_kit import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), FIAPX_LOGIN_RATE="3/hour") as running:
        yield running


def upload_head(server: Server, account: Account, length: int) -> bytes:
    lines = (
        "POST /api/v1/videos HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Authorization: Bearer {account.token}",
        "Content-Type: video/mp4",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def test_a_guesser_cannot_pretend_to_be_many(server: Server) -> None:
    email = server.account().email
    codes = [
        httpx.post(
            f"{server.url}/api/v1/auth/token",
            data={"username": email, "password": "wrong password"},
            headers={"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}"},
            trust_env=False,
        ).status_code
        for number in range(5)
    ]
    assert codes == [401, 401, 401, 429, 429]


def test_an_upload_of_an_account_that_is_deleted_meanwhile_leaves_nothing(server: Server) -> None:
    account = server.account()
    before = server.files()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(upload_head(server, account, 6) + b"abc")
        eventually(lambda: len(server.files()) > len(before))
        gone = account.request("DELETE", "/auth/me", json={"password": PASSWORD})
        assert gone.status_code == 204
        with closing(sqlite3.connect(server.home / "processing.db")) as database:
            eventually(lambda: database.execute("SELECT count(*) FROM deleted_users").fetchone()[0] >= 1)
            connection.sendall(b"def")
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
            assert database.execute("SELECT count(*) FROM videos").fetchone()[0] == 0
    eventually(lambda: server.files() == before)


def test_many_who_stall_hold_up_nobody(server: Server) -> None:
    """More than there are threads: uploads without an end, and connections that say nothing."""
    account = server.account()
    before = server.files()
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(120)]
    try:
        for connection in connections[:60]:
            connection.sendall(upload_head(server, account, 1000) + b"abc")
        eventually(lambda: len(server.files()) == len(before) + 60)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(account.get, "/auth/me").result(10)["email"] == account.email
    finally:
        for connection in connections:
            connection.close()
    eventually(lambda: server.files() == before)
