"""Uploads over real HTTP: raw and forms, limits, names, idempotency, clients that leave."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fiapx.core.errors import NoSpace
from fiapx.server.processing import tables
from tests.processing_kit import ANA, KILO, Processing, eventually, processing

LIMIT = 256 * KILO


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path, max_upload_bytes=LIMIT) as service:
        yield service


def form(*parts: tuple[str, str | bytes], name: str = "clip.mp4", boundary: str = "X") -> tuple[bytes, dict[str, str]]:
    """A form in exactly this order; bytes are the file."""
    body = b""
    for field, value in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"'
        if isinstance(value, bytes):
            body += f'{head}; filename="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        else:
            body += f"{head}\r\n\r\n{value}\r\n".encode()
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def raw(service: Processing, url: str, head: str, body: bytes = b"") -> socket.socket:
    """Open a connection and send a request by hand."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    token = service.tokens.token(ANA)
    connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode() + body)
    return connection


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("content_type", ["video/mp4", "application/octet-stream", None])
def test_takes_raw_bytes(service: Processing, client: httpx.Client, content_type: str | None) -> None:
    content = os.urandom(LIMIT)
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post("/videos", params={"name": "../x/férias.mp4"}, content=content, headers=headers)
    assert answer.status_code == 201
    video = answer.json()
    assert answer.headers["location"] == f"/videos/{video['id']}"
    assert (video["name"], video["size"]) == ("férias.mp4", LIMIT)
    assert video["sha256"] == hashlib.sha256(content).hexdigest()
    assert b"".join(service.storage.read(f"videos/{video['id']}")) == content
    assert client.get(f"/videos/{video['id']}").json() == video
    assert video["created_at"].endswith("Z")


def test_takes_the_name_from_content_disposition(client: httpx.Client) -> None:
    headers = {"Content-Type": "video/mp4", "Content-Disposition": "attachment; filename*=UTF-8''f%C3%A9.mp4"}
    assert client.post("/videos", content=b"x", headers=headers).json()["name"] == "fé.mp4"


@pytest.mark.parametrize("field", ["file", "video"])
def test_takes_forms(service: Processing, client: httpx.Client, field: str) -> None:
    answer = client.post("/videos", files={field: ("clip.mp4", b"0123")})
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["size"]) == ("clip.mp4", 4)


@pytest.mark.parametrize(
    "order",
    [
        [("fps", "2"), ("format", "png"), ("file", b"bytes")],
        [("file", b"bytes"), ("fps", "2"), ("format", "png")],
        [("fps", "2"), ("file", b"bytes"), ("format", "png")],
    ],
)
def test_option_fields_come_in_any_order(
    service: Processing, client: httpx.Client, order: list[tuple[str, str | bytes]]
) -> None:
    body, headers = form(*order)
    answer = client.post("/jobs", content=body, headers=headers)
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["options"]["fps"], job["options"]["format"]) == ("queued", "2", "png")
    assert job["video"]["name"] == "clip.mp4"
    assert service.events() == ["job.queued"]
    assert b"".join(service.storage.read(f"videos/{job['video']['id']}")) == b"bytes"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([("fps", "0"), ("file", b"x")], (422, "invalid_options")),
        ([("file", b"x"), ("fps", "0")], (422, "invalid_options")),
        ([("colour", "red"), ("file", b"x")], (422, "invalid_options")),
        ([("fps", "1"), ("fps", "2"), ("file", b"x")], (422, "invalid_request")),
        ([("fps", "1")], (422, "invalid_request")),
        ([("file", b"x"), ("file", b"y")], (422, "invalid_request")),
        ([("file", b"")], (422, "unsupported_format")),
    ],
)
def test_refused_forms_leave_nothing(
    service: Processing, client: httpx.Client, parts: list[tuple[str, str | bytes]], expected: tuple[int, str]
) -> None:
    body, headers = form(*parts)
    assert problem(client.post("/jobs", content=body, headers=headers)) == expected
    assert service.objects() == []
    assert service.count() == service.count(tables.videos) == 0


def test_refuses_other_bodies(service: Processing, client: httpx.Client) -> None:
    wrong = {"Content-Type": "application/x-www-form-urlencoded"}
    assert problem(client.post("/videos", content=b"x", headers=wrong)) == (415, "unsupported_media_type")
    assert problem(client.post("/jobs", content=b"x", headers=wrong)) == (415, "unsupported_media_type")
    assert problem(client.post("/videos", content=b"", headers={"Content-Type": "video/mp4"})) == (
        422,
        "unsupported_format",
    )
    body, headers = form(("fps", "1"), ("file", b"x"))
    assert problem(client.post("/videos", content=body, headers=headers)) == (422, "invalid_request")
    assert service.objects() == []


def test_names_in_forms_are_no_paths(client: httpx.Client) -> None:
    body, headers = form(("file", b"x"), name="..\\..\\a\x1b[2J" + "é" * 300)
    name = client.post("/videos", content=body, headers=headers).json()["name"]
    assert name.startswith("a[2Jé")
    assert len(name.encode()) <= 255


def test_a_declared_size_over_the_limit_is_refused_before_the_body(service: Processing, url: str) -> None:
    for path, kind, length in (
        ("/videos", "video/mp4", LIMIT + 1),
        ("/videos", "video/mp4", 2**64 - 1),
        ("/jobs", "multipart/form-data; boundary=X", LIMIT + 2 * KILO * KILO),
    ):
        head = f"POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {length}"
        with raw(service, url, head) as connection:
            assert connection.recv(KILO).startswith(b"HTTP/1.1 413 ")
    assert service.objects() == []


def test_undeclared_bytes_are_counted(service: Processing, client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(LIMIT // KILO + 1):
            yield b"x" * KILO

    answer = client.post("/videos", content=endless(), headers={"Content-Type": "video/mp4"})
    assert problem(answer) == (413, "payload_too_large")
    body, headers = form(("file", b"x" * (LIMIT + 1)))
    assert problem(client.post("/jobs", content=body, headers=headers)) == (413, "payload_too_large")
    assert service.objects() == []
    assert service.count(tables.videos) == 0


@pytest.mark.parametrize("kind", ["raw", "chunked", "form"])
def test_a_client_that_leaves_in_the_middle_leaves_nothing(service: Processing, url: str, kind: str) -> None:
    head = "POST /videos HTTP/1.1\r\nContent-Type: video/mp4\r\nContent-Length: 100000"
    body = b"x" * 50_000
    if kind == "chunked":
        head = "POST /videos HTTP/1.1\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked"
        body = b"c350\r\n" + body + b"\r\n"
    if kind == "form":
        content, headers = form(("file", b"x" * 50_000))
        head = f"POST /jobs HTTP/1.1\r\nContent-Type: {headers['Content-Type']}\r\nContent-Length: {len(content)}"
        body = content[:40_000]
    with raw(service, url, head, body):
        eventually(lambda: len(service.objects()) == 1)
    eventually(lambda: service.objects() == [])
    assert service.count(tables.videos) == 0


def test_a_full_disk_is_503_and_leaves_nothing(
    service: Processing, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise NoSpace

    monkeypatch.setattr("fiapx.adapters.storage_disk.DiskWriter.commit", full)
    answer = client.post("/videos", content=b"x", headers={"Content-Type": "video/mp4"})
    assert problem(answer) == (503, "no_space")
    assert answer.headers["retry-after"] == "30"
    assert service.objects() == []


def upload(client: httpx.Client, key: str, **options: Any) -> httpx.Response:
    headers = {"Content-Type": "video/mp4", "Idempotency-Key": key} | options.pop("headers", {})
    return client.post("/videos", headers=headers, **{"content": b"bytes", **options})


def test_the_same_key_gives_the_same_video(service: Processing, client: httpx.Client) -> None:
    first, second = upload(client, "k1"), upload(client, "k1")
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert problem(upload(client, "k1", content=b"other length")) == (422, "idempotency_mismatch")
    assert problem(upload(client, "k1", params={"name": "other"})) == (422, "idempotency_mismatch")
    assert len(service.objects()) == 1


@pytest.mark.parametrize("key", [b"", b"a b", "é".encode(), b"x" * 256])
def test_refuses_strange_keys(client: httpx.Client, key: bytes) -> None:
    answer = client.post("/videos", content=b"x", headers={b"Idempotency-Key": key})
    assert problem(answer) == (422, "invalid_request")


def test_a_repeated_upload_is_answered_before_its_body(service: Processing, client: httpx.Client, url: str) -> None:
    video = upload(client, "early", content=b"x" * 1000).json()
    head = (
        "POST /videos HTTP/1.1\r\nContent-Type: video/mp4\r\nContent-Length: 1000\r\nIdempotency-Key: early\r\n"
        "Connection: close"
    )
    with raw(service, url, head) as connection:
        answer = connection.recv(64 * KILO)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"idempotency-replayed: true" in answer
    while_reading = answer.split(b"\r\n\r\n", 1)[1]
    assert video["id"].encode() in while_reading or while_reading == b""


def test_a_repeated_form_is_answered_at_its_file(service: Processing, client: httpx.Client, url: str) -> None:
    body, headers = form(("fps", "2"), ("file", b"x" * 100_000))
    keyed = headers | {"Idempotency-Key": "early"}
    first = client.post("/jobs", content=body, headers=keyed)
    head = (
        f"POST /jobs HTTP/1.1\r\nContent-Type: {headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n"
        "Idempotency-Key: early"
    )
    with raw(service, url, head, body[:2000]) as connection:
        answer = connection.recv(64 * KILO)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert first.json()["id"].encode() in answer
    assert service.count() == 1


@pytest.mark.parametrize("last", [False, True])
def test_a_form_with_other_options_is_another_request(service: Processing, client: httpx.Client, last: bool) -> None:
    def send(fps: str) -> httpx.Response:
        parts: list[tuple[str, str | bytes]] = [("file", b"bytes"), ("fps", fps)]
        body, headers = form(*(parts if last else reversed(parts)))
        return client.post("/jobs", content=body, headers=headers | {"Idempotency-Key": "k"})

    first = send("2")
    assert problem(send("4")) == (422, "idempotency_mismatch")
    again = send("2")
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(service.objects()) == service.count() == 1


def test_equal_requests_at_once_make_one_job(service: Processing, url: str) -> None:
    body, headers = form(("fps", "2"), ("file", b"x" * 50_000))
    answers: list[httpx.Response] = []

    def send() -> None:
        with service.client(url) as client:
            answers.append(client.post("/jobs", content=body, headers=headers | {"Idempotency-Key": "race"}))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert service.count() == 1
    assert len(service.objects()) == 1


def test_the_token_comes_before_the_body(service: Processing, url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname
    for path in ("/videos", "/jobs"):
        with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: 100000\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(KILO).startswith(b"HTTP/1.1 401 ")
