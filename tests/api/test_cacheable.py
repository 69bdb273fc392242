"""What processing lets the gateway keep, and what the gateway then need not ask for."""

from __future__ import annotations

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from fiapx.server.gateway.answers import Answers, CacheCounters
from fiapx.server.gateway.gate import Gate
from fiapx.server.identity import Verifier
from fiapx.server.processing.warming import warm
from tests.processing_kit import ANA, Host, Processing


def marks(service: Processing, url: str, path: str) -> str | None:
    with service.client(url) as client:
        mark: str | None = client.get(path).raise_for_status().headers.get("Fiapx-Cache")
        return mark


def test_what_only_a_write_can_change_may_be_kept(service: Processing, url: str) -> None:
    job_id = service.queue_job()
    video = f"/videos/{service.row(job_id).video_id}"
    assert [marks(service, url, path) for path in ("/videos", video, "/jobs", f"/jobs/{job_id}")] == [
        "30",
        "30",
        "5",
        None,  # its place in the queue changes with other jobs
    ]
    claim = service.claim()
    assert [marks(service, url, path) for path in ("/jobs", f"/jobs/{job_id}")] == [None, None]
    service.complete(claim)
    assert [marks(service, url, path) for path in ("/jobs", f"/jobs/{job_id}")] == ["5", "5"]


def test_a_gateway_asks_once_until_the_next_write(service: Processing, host: Host) -> None:
    asked: list[str] = []
    processing = FastAPI()
    processing.mount("/api/v1", service.app)

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await processing(scope, receive, send)

    kept = Answers(upstream, service.cache, CacheCounters(CollectorRegistry()), stale=60)
    gateway = Gate(kept, Verifier(service.tokens.jwks, service.tokens))
    job_id = service.queue_job()
    with host.serve(gateway) as url, service.client(url) as client:
        answers = [_states(client) for _ in range(5)]
        assert answers == [["queued"]] * 5
        assert len(asked) == 1
        service.commands.cancel(ANA, job_id)
        assert _states(client) == ["cancelled"]
        assert len(asked) == 2


def _states(client: httpx.Client) -> list[str]:
    return [job["state"] for job in client.get("/api/v1/jobs").raise_for_status().json()["items"]]


def test_warmed_lists_are_hits_at_the_first_request(service: Processing, client: httpx.Client) -> None:
    service.queue_job()
    warm(service.queries, [ANA.user_id])
    client.get("/jobs").raise_for_status()
    client.get("/videos").raise_for_status()
    for name in ("jobs", "videos"):
        assert service.registry.get_sample_value("fiapx_cache_hits_total", {"cache": name}) == 1


def test_a_cache_that_cannot_be_warmed_stops_nothing(service: Processing) -> None:
    service.engine.dispose()
    with service.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE videos")
    warm(service.queries, [ANA.user_id])
