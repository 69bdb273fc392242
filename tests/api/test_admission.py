"""More work than is taken in, and results that have been let go, as a client sees them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import update

from fiapx.server.processing.retention import Retention
from fiapx.server.processing.tables import jobs
from tests.processing_kit import ANA, BOB, Processing, processing


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path, user_jobs=2, queue_jobs=4) as service:
        yield service


def upload(client: httpx.Client) -> httpx.Response:
    return client.post("/jobs", files={"file": ("clip.mp4", b"0123")})


def test_a_users_jobs_are_bounded_and_nothing_of_a_refused_one_stays(service: Processing, client: httpx.Client) -> None:
    first, second = upload(client), upload(client)
    assert [first.status_code, second.status_code] == [201, 201]
    refused = upload(client)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    assert int(refused.headers["retry-after"]) > 0
    assert (service.count(), len(service.objects())) == (2, 2)
    assert client.post("/videos", content=b"0123").status_code == 201, "videos alone may come"
    again = client.post("/jobs", json={"video_id": first.json()["video"]["id"]})
    assert again.json()["code"] == "too_many_jobs"


def test_it_is_refused_before_its_bytes_have_come(service: Processing, client: httpx.Client, url: str) -> None:
    for _ in range(2):
        upload(client)
    part = b'--X\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\nthe first bytes'
    head = [
        "POST /jobs HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {service.tokens.token(ANA)}",
        "Content-Type: multipart/form-data; boundary=X",
        "Content-Length: 100000",
    ]
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + part)
        assert connection.recv(4096).startswith(b"HTTP/1.1 429 ")


def test_a_resumable_upload_is_refused_at_its_beginning_and_not_at_its_end(
    service: Processing, client: httpx.Client
) -> None:
    """Nobody sends gigabytes for nothing: an upload that was begun becomes its job, however many there are by then."""
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "4", "Upload-Metadata": "options e30="}
    begun = client.post("/uploads", headers=tus)
    assert begun.status_code == 201
    for _ in range(2):
        upload(client)
    refused = client.post("/uploads", headers=tus)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    body = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    ended = client.patch(begun.headers["location"], headers=body, content=b"0123")
    assert ended.status_code == 204
    assert client.get(f"/jobs/{ended.headers['fiapx-job-id']}").json()["state"] == "queued"


def test_the_queue_is_bounded(service: Processing, client: httpx.Client) -> None:
    for _ in range(4):
        service.queue_job(BOB)
    refused = upload(client)
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert refused.headers["retry-after"] == "30"


def test_a_result_that_has_been_let_go_is_410(service: Processing, client: httpx.Client) -> None:
    service.queue_job()
    claim = service.claim()
    service.complete(claim)
    with service.engine.begin() as connection:
        connection.execute(update(jobs).values(finished_ms=1))
    for key in Retention(service.transitions, 60).expire():
        service.storage.delete(key)
    for path in ("result", "manifest", "frames/1"):
        answer = client.get(f"/jobs/{claim.job_id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    view = client.get(f"/jobs/{claim.job_id}").json()
    assert (view["state"], view["result"]["expired"]) == ("completed", True)
