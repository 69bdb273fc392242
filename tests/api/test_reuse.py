"""Identical requests over HTTP: answered at once, from one result; and fresh work for those who want it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from fiapx.core.options import ExtractOptions
from tests.processing_kit import BOB, Processing


def upload(client: httpx.Client, name: str = "clip.mp4") -> str:
    answer = client.post("/videos", params={"name": name}, content=b"video", headers={"Content-Type": "video/mp4"})
    return str(answer.json()["id"])


def ask(client: httpx.Client, video_id: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/jobs", json={"video_id": video_id, **more})
    assert answer.status_code == 201
    job: dict[str, Any] = answer.json()
    return job


def send(client: httpx.Client, **fields: str) -> httpx.Response:
    return client.post("/jobs", data=fields, files={"file": ("clip.mp4", b"video")})


def test_the_same_again_is_there_at_once(service: Processing, client: httpx.Client) -> None:
    first = ask(client, upload(client), options={"fps": 2})
    archive = service.complete(service.claim())
    for job in (
        ask(client, first["video"]["id"], options={"fps": "2"}),
        ask(client, upload(client), options={"fps": 2}),
        send(client, fps="2").json(),
        send(client, fps="2", fresh="false").json(),
    ):
        assert (job["state"], job["reused_from"] is not None, job["attempt"]) == ("completed", True, 0)
        assert job["result"] == client.get(f"/jobs/{first['id']}").json()["result"]
        assert job["progress"] == {"done": 3, "total": 3}
        assert client.get(f"/jobs/{job['id']}/result").content == archive.content
        assert client.get(f"/jobs/{job['id']}/frames/2").content == archive.images[1]
        with connect_sse(client, "GET", f"/jobs/{job['id']}/events") as source:
            (event,) = source.iter_sse()
        assert json.loads(event.data) == client.get(f"/jobs/{job['id']}").json() | {"attempts": None}
    assert client.get("/jobs", params={"state": "completed"}).json()["items"][-1]["reused_from"] is None


def test_other_options_need_no_other_upload(service: Processing, client: httpx.Client) -> None:
    video_id = upload(client)
    ask(client, video_id)
    service.complete(service.claim())
    job = ask(client, video_id, options={"every": "2s", "width": 640})
    assert (job["state"], job["reused_from"]) == ("queued", None)
    assert service.claim().video_key == f"videos/{video_id}"


def test_a_result_outlives_the_job_that_made_it(service: Processing, client: httpx.Client) -> None:
    first = ask(client, upload(client))
    archive = service.complete(service.claim())
    second = ask(client, first["video"]["id"])
    assert second["reused_from"] == first["id"]
    assert client.delete(f"/jobs/{first['id']}").status_code == 204
    assert client.get(f"/jobs/{second['id']}/result").content == archive.content
    assert client.get(f"/jobs/{second['id']}/manifest").status_code == 200
    assert client.delete(f"/jobs/{second['id']}").status_code == 204
    assert [key for key in service.objects() if key.startswith("jobs/")] == []


def test_nobody_learns_what_others_have(service: Processing, client: httpx.Client, url: str) -> None:
    ask(client, upload(client))
    service.complete(service.claim())
    with service.client(url, BOB) as bob:
        job = ask(bob, upload(bob))
        assert (job["state"], job["reused_from"]) == ("queued", None)


def test_fresh_work_is_done_and_so_is_a_retry(service: Processing, client: httpx.Client) -> None:
    first = ask(client, upload(client))
    service.complete(service.claim())
    again = [
        ask(client, first["video"]["id"], fresh=True),
        send(client, fresh="true").json(),
        client.post(f"/jobs/{first['id']}/retry").json(),
    ]
    assert [(job["state"], job["reused_from"]) for job in again] == [("queued", None)] * 3
    for _ in again:
        assert not service.leases.reuse(service.claim())


def test_fresh_and_not_are_different_requests(client: httpx.Client) -> None:
    body, key = {"video_id": upload(client)}, {"Idempotency-Key": "k"}
    client.post("/jobs", json=body, headers=key)
    refused = client.post("/jobs", json={**body, "fresh": True}, headers=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("answer", ["maybe", ""])
def test_fresh_is_true_or_false(client: httpx.Client, answer: str) -> None:
    refused = send(client, fresh=answer)
    assert (refused.status_code, refused.json()["detail"]) == (422, "fresh: must be true or false")
    refused = client.post("/jobs", json={"video_id": "x", "fresh": answer})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_the_document_tells_of_it(service: Processing) -> None:
    document = service.app.openapi()
    contents = document["paths"]["/jobs"]["post"]["requestBody"]["content"]
    for kind in ("application/json", "multipart/form-data"):
        fresh = contents[kind]["schema"]["properties"]["fresh"]
        assert (fresh["type"], fresh["default"]) == ("boolean", False)
    assert "reused_from" in document["components"]["schemas"]["JobView"]["properties"]


def test_the_document_lists_every_option(service: Processing) -> None:
    contents = service.app.openapi()["paths"]["/jobs"]["post"]["requestBody"]["content"]
    form = contents["multipart/form-data"]["schema"]["properties"]
    body = contents["application/json"]["schema"]["properties"]["options"]["properties"]
    assert set(body) == set(ExtractOptions.model_fields) == set(form) - {"file", "fresh"}
    for options in (form, body):
        for name in ("fps", "every", "start", "end"):
            assert [kind["type"] for kind in options[name]["anyOf"]] == ["number", "string", "null"], name
        assert [kind["type"] for kind in options["at"]["anyOf"]] == ["array", "number", "string", "null"]
