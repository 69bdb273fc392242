"""Jobs and videos over HTTP: create, list, cancel, retry, delete, watch; and who may see what."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from fiapx.core.errors import CorruptMedia
from fiapx.server.processing.progress import put_progress
from fiapx.server.processing.uploads.model import NewUpload
from tests.processing_kit import ANA, BOB, Processing, eventually

TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def upload(client: httpx.Client) -> str:
    video_id: str = client.post("/videos", content=b"video", headers={"Content-Type": "video/mp4"}).json()["id"]
    return video_id


def test_creates_a_job_for_a_video(service: Processing, client: httpx.Client) -> None:
    video_id = upload(client)
    answer = client.post("/jobs", json={"video_id": video_id, "options": {"fps": "30000/1001", "width": 320}})
    assert answer.status_code == 201
    job = answer.json()
    assert job["state"] == "queued"
    assert job["video"] == {"id": video_id, "name": "video"}
    assert (job["options"]["fps"], job["options"]["width"], job["options"]["quality"]) == ("30000/1001", 320, 90)
    assert job["queue_position"] == 1
    assert job["attempt"] == 0
    assert job["result"] is job["error"] is job["started_at"] is None
    assert client.get(f"/jobs/{job['id']}").json() == job
    assert client.post("/jobs", json={"video_id": video_id}).json()["queue_position"] == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"video_id": str(uuid.uuid4())}, (404, "not_found")),
        ({"video_id": "../x\0"}, (404, "not_found")),
        ({}, (422, "invalid_request")),
        ([], (422, "invalid_request")),
        ({"video_id": "x", "more": 1}, (422, "invalid_request")),
        ({"video_id": "x", "options": {"fps": -1}}, (422, "invalid_options")),
        ({"video_id": "x", "options": {"fps": 1, "every": 1}}, (422, "invalid_options")),
        ({"video_id": "x", "options": {"colour": "red"}}, (422, "invalid_options")),
    ],
)
def test_refuses_senseless_jobs(client: httpx.Client, body: Any, expected: tuple[int, str]) -> None:
    assert problem(client.post("/jobs", json=body)) == expected


def test_refuses_what_is_no_json(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    assert problem(client.post("/jobs", content=b"{", headers=headers)) == (422, "invalid_request")
    assert problem(client.post("/jobs", content=b"[" * 100_000, headers=headers)) == (422, "invalid_request")
    assert problem(client.post("/jobs", content=b" " * 2**21, headers=headers)) == (413, "payload_too_large")


def test_lists_in_pages_newest_first(service: Processing, client: httpx.Client) -> None:
    jobs = [service.queue_job() for _ in range(5)]
    service.queue_job(BOB)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/jobs", params={"limit": 2, **cursor}).json()
        seen += [job["id"] for job in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert sorted(seen) == sorted(jobs)
    created = [client.get(f"/jobs/{job}").json()["created_at"] for job in seen]
    assert created == sorted(created, reverse=True)
    videos = client.get("/videos", params={"limit": 4}).json()
    rest = client.get("/videos", params={"limit": 4, "cursor": videos["next_cursor"]}).json()
    assert len(videos["items"]) + len(rest["items"]) == 5
    assert rest["next_cursor"] is None


def test_lists_videos_by_size(client: httpx.Client) -> None:
    for size in (3, 5, 5):
        assert client.post("/videos", content=b"x" * size).status_code == 201
    for size, expected in ((3, 1), (5, 2), (4, 0), (2**63 - 1, 0)):
        items = client.get("/videos", params={"size": size}).json()["items"]
        assert [video["size"] for video in items] == [size] * expected
    assert len(client.get("/videos").json()["items"]) == 3
    page = client.get("/videos", params={"size": 5, "limit": 1}).json()
    rest = client.get("/videos", params={"size": 5, "limit": 1, "cursor": page["next_cursor"]}).json()
    assert rest["next_cursor"] is None
    assert page["items"][0]["id"] != rest["items"][0]["id"]
    for wrong in (-1, 2**63, "x"):
        assert problem(client.get("/videos", params={"size": wrong})) == (422, "invalid_request")


def test_lists_by_state(service: Processing, client: httpx.Client) -> None:
    service.queue_job()
    service.leases.fail(service.claim(), CorruptMedia())
    waiting = service.queue_job()
    items = client.get("/jobs", params={"state": "queued"}).json()["items"]
    assert [job["id"] for job in items] == [waiting]
    (failed,) = client.get("/jobs", params={"state": "failed"}).json()["items"]
    assert failed["error"] == {"code": "corrupt_media", "message": CorruptMedia().message}
    assert client.get("/jobs", params={"state": "running"}).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    "query",
    [
        {"state": "lost"},
        {"limit": 0},
        {"limit": 1000},
        {"limit": "x"},
        {"cursor": "x"},
        {"cursor": "OTIyMzM3MjAzNjg1NDc3NTgwOC54"},  # 9223372036854775808.x, more than 64 bits
        {"cursor": "é"},
        {"cursor": ""},
    ],
)
def test_refuses_senseless_lists(client: httpx.Client, query: dict[str, Any]) -> None:
    assert problem(client.get("/jobs", params=query)) == (422, "invalid_request")


def test_shows_progress_and_what_is_left(service: Processing, client: httpx.Client) -> None:
    job_id = service.queue_job()
    claim = service.claim()
    assert client.get(f"/jobs/{job_id}").json()["progress"] is None
    put_progress(service.cache, job_id, claim.attempt, 25, 100)
    time.sleep(0.05)
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["attempt"], job["progress"]) == ("running", 1, {"done": 25, "total": 100})
    assert 0 <= job["eta_seconds"] < 30
    put_progress(service.cache, job_id, claim.attempt - 1, 99, 100)
    assert client.get(f"/jobs/{job_id}").json()["progress"] is None
    service.complete(claim)
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["progress"], job["eta_seconds"]) == ({"done": 3, "total": 3}, None)
    assert job["result"]["frames"] == 3
    assert job["finished_at"] >= job["started_at"] >= job["created_at"]


def test_cancels_once(service: Processing, client: httpx.Client) -> None:
    job_id = service.queue_job()
    answer = client.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert problem(client.post(f"/jobs/{job_id}/cancel")) == (409, "job_finished")


def test_retries_ended_jobs(service: Processing, client: httpx.Client) -> None:
    job_id = service.queue_job()
    assert problem(client.post(f"/jobs/{job_id}/retry")) == (409, "job_not_finished")
    client.post(f"/jobs/{job_id}/cancel")
    key = {"Idempotency-Key": "again"}
    answer = client.post(f"/jobs/{job_id}/retry", headers=key)
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["retry_of"]) == ("queued", job_id)
    assert job["options"] == client.get(f"/jobs/{job_id}").json()["options"]
    repeated = client.post(f"/jobs/{job_id}/retry", headers=key)
    assert (repeated.json()["id"], repeated.headers["idempotency-replayed"]) == (job["id"], "true")
    client.post(f"/jobs/{job['id']}/cancel")
    assert problem(client.post(f"/jobs/{job['id']}/retry", headers=key)) == (422, "idempotency_mismatch")
    client.delete(f"/videos/{job['video']['id']}")
    gone = client.post(f"/jobs/{job_id}/retry")
    assert problem(gone) == (409, "conflict")
    assert "deleted" in gone.json()["detail"]


def test_deletes_ended_jobs_with_their_results(service: Processing, client: httpx.Client) -> None:
    job_id = service.queue_job()
    assert problem(client.delete(f"/jobs/{job_id}")) == (409, "job_not_finished")
    service.complete(service.claim())
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert problem(client.get(f"/jobs/{job_id}")) == (404, "not_found")
    assert problem(client.delete(f"/jobs/{job_id}")) == (404, "not_found")
    assert [key.split("/")[0] for key in service.objects()] == ["videos"]


def test_deletes_videos(service: Processing, client: httpx.Client) -> None:
    video_id = upload(client)
    job_id = client.post("/jobs", json={"video_id": video_id}).json()["id"]
    assert client.delete(f"/videos/{video_id}").status_code == 204
    assert problem(client.get(f"/videos/{video_id}")) == (404, "not_found")
    assert problem(client.delete(f"/videos/{video_id}")) == (404, "not_found")
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["video"]["id"]) == ("cancelled", video_id)
    assert service.objects() == []


def test_creating_a_job_twice_with_one_key_makes_one(service: Processing, client: httpx.Client) -> None:
    body = {"video_id": upload(client), "options": {"fps": 2}}
    key = {"Idempotency-Key": "k"}
    first, second = (client.post("/jobs", json=body, headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    other = client.post("/jobs", json={**body, "options": {"fps": 3}}, headers=key)
    assert problem(other) == (422, "idempotency_mismatch")
    assert service.count() == 1


def test_watching_tells_each_change_and_ends(service: Processing, url: str) -> None:
    job_id = service.queue_job()
    told: list[dict[str, Any]] = []
    first = threading.Event()

    def watch() -> None:
        with service.client(url) as client, connect_sse(client, "GET", f"/jobs/{job_id}/events") as source:
            assert source.response.headers["content-type"].startswith("text/event-stream")
            for event in source.iter_sse():
                assert event.event == "job"
                told.append(json.loads(event.data))
                first.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert first.wait(5)
    claim = service.claim()
    eventually(lambda: told[-1]["state"] == "running")
    put_progress(service.cache, job_id, 1, 1, 3)
    eventually(lambda: told[-1]["progress"] == {"done": 1, "total": 3})
    service.complete(claim)
    thread.join(5)
    assert not thread.is_alive()
    assert [job["state"] for job in told] == ["queued", "running", "running", "completed"]


def test_watching_an_ended_job_tells_it_and_ends(service: Processing, client: httpx.Client) -> None:
    job_id = service.queue_job()
    service.complete(service.claim())
    with connect_sse(client, "GET", f"/jobs/{job_id}/events") as source:
        (event,) = list(source.iter_sse())
    shown = client.get(f"/jobs/{job_id}").json()
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["completed"]
    assert json.loads(event.data) == shown | {"attempts": None}


def test_streams_breathe_and_end_at_shutdown(
    service: Processing, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiapx.server.processing.api.events._HEARTBEAT", 0.1)
    job_id = service.queue_job()
    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        lines = response.iter_lines()
        assert any(line.startswith(": ") for line in lines)
        service.draining.set()
        started = time.monotonic()
        for _ in lines:
            pass
        assert time.monotonic() - started < 2


def test_a_stream_ends_with_the_session(
    service: Processing, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiapx.server.processing.api.events._RECHECK", 0.1)
    with client.stream("GET", f"/jobs/{service.queue_job()}/events") as response:
        lines = response.iter_lines()
        assert next(lines) == "event: job"
        service.tokens.ended.add(ANA.session_id)
        started = time.monotonic()
        for _ in lines:
            pass
        assert time.monotonic() - started < 3


def routes(service: Processing) -> list[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = service.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_another_users_things_are_as_missing_ones(service: Processing, url: str) -> None:
    """Generated from the OpenAPI document, so that a new route is tested as well."""
    job_id = service.queue_job(ANA)
    service.complete(service.claim())
    video_id = service.row(job_id).video_id
    upload, _ = service.uploads.create(ANA, NewUpload("clip.mp4", 5), None)
    checked = 0
    capabilities = ("OPTIONS", "/uploads")  # told to everybody, as tus wants it
    with service.client(url, BOB) as bob, service.client(url, None) as nobody:
        for method, path in sorted(set(routes(service)) - {capabilities}):
            mine = path.format(job_id=job_id, video_id=video_id, upload_id=upload.id, number=1)
            assert problem(nobody.request(method, mine, headers=TUS)) == (401, "auth_required"), path
            if "{" not in path:
                continue
            checked += 1
            ids = {name: uuid.uuid4() for name in ("job_id", "video_id", "upload_id")}
            theirs, none = (bob.request(method, where, headers=TUS) for where in (mine, path.format(**ids, number=1)))
            assert problem(theirs) == (404, "not_found"), (method, path)
            assert theirs.content == none.content
        assert bob.head(f"/jobs/{job_id}/result").status_code == 404
        assert problem(bob.post("/jobs", json={"video_id": video_id})) == (404, "not_found")
        assert bob.get("/jobs").json()["items"] == bob.get("/videos").json()["items"] == []
    assert checked >= 10
    assert service.row(job_id).state == "completed"
    assert len(service.objects()) == 2


@pytest.mark.parametrize("strange", ["1", "x" * 500, "%00", "..%2f..", "{11111111-1111-4111-8111-111111111111}"])
def test_ids_that_are_none_are_missing(client: httpx.Client, strange: str) -> None:
    for path in (f"/jobs/{strange}", f"/videos/{strange}", f"/jobs/{strange}/result", f"/jobs/{strange}/events"):
        assert problem(client.get(path))[0] == 404


def test_a_silent_database_is_503(service: Processing, client: httpx.Client) -> None:
    (service.root.parent / "processing.db").rename(service.root.parent / "moved.db")
    for name in ("processing.db-wal", "processing.db-shm"):
        (service.root.parent / name).unlink(missing_ok=True)
    service.engine.dispose()
    answer = client.get("/jobs")
    assert problem(answer) == (503, "unavailable")
    assert "retry-after" in answer.headers
    assert "jobs" not in answer.text
