"""An object store that is full: uploads are refused, and leave no row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fiapx.adapters.storage_s3 import S3Storage
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.redis import PrivateRedis
from tests.e2e.kit import Account
from tests.e2e.test_resumable import Services
from tests.faults.table import Observed
from tests.processing_kit import eventually
from tests.s3 import KEY, s3_bucket
from tests.unit.cli_support import Cutter

_FULL = b"<Error><Code>InsufficientStorage</Code><Message>The disk is full.</Message></Error>"
STATUSES = {507: b"Insufficient Storage", 500: b"Internal Server Error"}
"""What stores say then."""


def _answer(status: int) -> bytes:
    head = b"HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, STATUSES[status], len(_FULL)) + _FULL


@pytest.fixture
def wire(s3_server: str) -> Cutter:
    """In front of a store that takes one connection for each request."""
    return Cutter(s3_server)


@pytest.fixture
def bucket(s3_server: str) -> str:
    return s3_bucket(s3_server)


@pytest.fixture
def ana(
    wire: Cutter, bucket: str, postgres_server: PrivatePostgres, redis_server: PrivateRedis, tmp_path: Path
) -> Iterator[Account]:
    """With a service of her own, whose store is behind the wire."""
    with wire.open() as address:
        settings = {
            "FIAPX_STORAGE_URL": f"s3://{bucket}/here",
            "FIAPX_S3_ENDPOINT": address,
            "FIAPX_S3_ACCESS_KEY": KEY,
            "FIAPX_S3_SECRET_KEY": KEY,
        }
        with Services(tmp_path, postgres_server, redis_server, settings) as services:
            account = Account(services, f"{uuid.uuid4().hex}@example.com")
            yield account
            account.close()


def _send(account: Account, number: int) -> httpx.Response:
    return account.request("POST", f"/videos?name={number}.mp4", content=b"x" * 1000)


@pytest.mark.lengthy
@pytest.mark.fault(27, "an object store that answers 507, or 500")
@pytest.mark.parametrize("status", STATUSES)
def test_a_full_store_takes_no_video_and_no_row_tells_of_one(
    ana: Account, wire: Cutter, bucket: str, s3_server: str, tmp_path: Path, observed: Observed, status: int
) -> None:
    taken = [_send(ana, 0).status_code]
    wire.answers[:] = [_answer(status)] * 10_000
    refused = [_send(ana, number) for number in range(1, 6)]
    wire.answers.clear()
    assert {answer.status_code for answer in refused} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert len(ana.get("/videos")["items"]) == taken.count(201) == 1

    def takes_one() -> bool:
        taken.append(_send(ana, len(taken)).status_code)
        return taken[-1] == 201

    with observed.recovery(within=40):
        eventually(takes_one)
    store = S3Storage(bucket, endpoint=s3_server, access_key=KEY, secret_key=KEY, scratch=tmp_path, prefix="here")
    videos = {f"videos/{video['id']}" for video in ana.get("/videos")["items"]}
    assert len(videos) == taken.count(201) == 2
    assert videos == {key for key, _age in store.list("videos/")}
    observed.says(f"{refused[0].status_code} with Retry-After, no row")
