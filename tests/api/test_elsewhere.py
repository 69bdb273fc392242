"""ZIPs from the object store itself: who is sent there, and what `fiapx download` makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry

from fiapx.cli.api import Api
from fiapx.cli.elsewhere import follow
from fiapx.cli.fetching import fetch
from fiapx.cli.problems import Unreachable
from fiapx.cli.profile import ProfileStore
from fiapx.core.errors import FiapxError
from fiapx.server.gateway.answers import Answers, CacheCounters
from fiapx.server.gateway.gate import Gate
from fiapx.server.identity import Verifier
from tests.processing_kit import ANA, BOB, Archive, Host, Processing, processing
from tests.s3 import s3_storage
from tests.unit.cli_support import Cutter, serving


@pytest.fixture
def store(s3_server: str) -> Cutter:
    """Between clients and the store."""
    return Cutter(s3_server)


@pytest.fixture
def service(s3_server: str, tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path, storage=s3_storage(s3_server, tmp_path / "scratch"), presign=60) as service:
        yield service


@pytest.fixture
def done(service: Processing) -> tuple[str, Archive]:
    job_id = service.queue_job(name="f\u00e9rias.mp4")
    return f"/jobs/{job_id}/result", service.complete(service.claim(), Archive.of(9))


def test_the_owner_is_sent_to_the_store(client: httpx.Client, done: tuple[str, Archive]) -> None:
    path, archive = done
    answer = client.get(path, headers={"Range": "bytes=3-"})
    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    there = httpx.get(answer.headers["location"], trust_env=False)
    assert there.content == archive.content
    assert there.headers["content-type"] == "application/zip"
    assert "filename*=UTF-8''f%C3%A9rias.zip" in there.headers["content-disposition"]


def test_heads_and_known_results_are_answered_here(client: httpx.Client, done: tuple[str, Archive]) -> None:
    path, archive = done
    head = client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(archive.content)))
    assert client.get(path, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert client.get(path.replace("result", "manifest")).status_code == 200


def test_nobody_else_is(service: Processing, url: str, done: tuple[str, Archive]) -> None:
    path, _ = done
    for user, status in ((BOB, 404), (None, 401)):
        with service.client(url, user) as client:
            answer = client.get(path)
        assert (answer.status_code, "location" in answer.headers) == (status, False)


def test_the_gateway_keeps_no_address(service: Processing, host: Host, done: tuple[str, Archive]) -> None:
    asked: list[str] = []
    app = FastAPI()
    app.mount("/api/v1", service.app)

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await app(scope, receive, send)

    service.cache.set(f"version:{ANA.user_id}", b"1", 60)
    kept = Answers(upstream, service.cache, CacheCounters(CollectorRegistry()), stale=60)
    with (
        host.serve(Gate(kept, Verifier(service.tokens.jwks, service.tokens))) as url,
        service.client(url) as client,
    ):
        answers = [client.get(f"/api/v1{done[0]}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [307, 307]
    assert len(asked) == 2


# --- the client -------------------------------------------------------------------------------


class Sending:
    """A server whose results are elsewhere, at an address that may change with each request."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.archive = Archive.of(400)
        self.job = {"id": "j1", "result": {"size": len(self.archive.content), "sha256": self.archive.result.sha256}}

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/api/v1/jobs/j1/result")
        def result(request: Request) -> Response:
            assert request.headers["authorization"] == "Bearer secret"
            address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
            return Response(status_code=307, headers={"Location": address})

        return app


@pytest.fixture
def sending() -> Sending:
    return Sending()


@pytest.fixture
def api(sending: Sending, tmp_path: Path) -> Iterator[Api]:
    with serving(sending.app()) as url, Api(url, ProfileStore(tmp_path / "p"), token="secret", environ={}) as api:
        yield api


def put(s3: str, archive: Archive, folder: Path) -> str:
    """The address of an archive in a new bucket."""
    storage = s3_storage(s3, folder / "scratch")
    with storage.create("jobs/j1/1.zip") as writer:
        writer.write(archive.content)
        writer.commit()
    url = storage.address("jobs/j1/1.zip", 60, disposition="attachment", media_type="application/zip")
    assert url is not None
    return url


def ignore(_done: int, _total: int) -> None:
    """No bar."""


def test_a_download_is_resumed_at_a_fresh_address(
    api: Api, sending: Sending, store: Cutter, s3_server: str, tmp_path: Path
) -> None:
    """The first address breaks off, the second is good no more, the third is."""
    expired = FastAPI()
    expired.add_api_route("/", lambda: Response("<Error><Code>AccessDenied</Code></Error>", 403))
    good = put(s3_server, sending.archive, tmp_path)
    store.down = [100_000]
    with store.open() as cutting, serving(expired) as refusing:
        sending.addresses = [good.replace(s3_server, cutting), refusing, good]
        fetch(api, sending.job, tmp_path / "out.zip", ignore)
    assert (tmp_path / "out.zip").read_bytes() == sending.archive.content
    assert (store.connections, sending.addresses) == (1, [good])


def test_the_store_gets_no_token_and_its_own_conditions_only(api: Api, sending: Sending, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []
    store = FastAPI()

    @store.get("/it")
    def it(request: Request) -> Response:
        seen.append(dict(request.headers))
        return Response(sending.archive.content)

    with serving(store) as address:
        sending.addresses = [f"{address}/it"]
        part = tmp_path / "out.zip.part"
        part.write_bytes(sending.archive.content[:1000])
        part.with_name("out.zip.part.etag").write_text(sending.archive.result.sha256)
        fetch(api, sending.job, tmp_path / "out.zip", ignore)
    assert (tmp_path / "out.zip").read_bytes() == sending.archive.content
    (headers,) = seen
    assert headers["range"] == "bytes=1000-"
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "if-range"} & headers.keys()


@pytest.mark.parametrize(
    ("address", "error"),
    [("http://127.0.0.1:1/", Unreachable), ("ftp://127.0.0.1/", FiapxError), ("http://[::1", FiapxError)],
)
def test_addresses_that_are_no_good(address: str, error: type[FiapxError]) -> None:
    with httpx.Client(trust_env=False) as client:
        request = client.build_request("GET", "http://127.0.0.1/")
        with pytest.raises(FiapxError) as caught:
            follow(httpx.Response(307, headers={"Location": address}, request=request), client)
    assert type(caught.value) is error


def test_a_download_stays_encrypted() -> None:
    with httpx.Client(trust_env=False) as client:
        request = client.build_request("GET", "https://127.0.0.1/")
        with pytest.raises(FiapxError, match="plain HTTP"):
            follow(httpx.Response(307, headers={"Location": "http://127.0.0.1/"}, request=request), client)
