"""Results over HTTP: the ZIP, its ranges, its manifest and its frames."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from typing import get_args

import httpx
import pytest

from fiapx.core.errors import CorruptMedia
from fiapx.core.options import ExtractOptions, ImageFormat
from tests.processing_kit import ANA, Archive, Processing


class Done:
    """A completed job, over HTTP."""

    def __init__(self, service: Processing, options: ExtractOptions | None = None, name: str = "clip.mp4") -> None:
        self.id = service.queue_job(options=options, name=name)
        self.archive = service.complete(service.claim(), Archive.of(40))
        self.content = self.archive.content
        self.etag = f'"{self.archive.result.sha256}"'
        self.result = f"/jobs/{self.id}/result"


@pytest.fixture
def done(service: Processing) -> Done:
    return Done(service)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_downloads_the_zip_with_its_checksum(client: httpx.Client, done: Done) -> None:
    answer = client.get(done.result)
    assert answer.status_code == 200
    assert answer.content == done.content
    assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
    digest = hashlib.sha256(answer.content)
    expected = {
        "content-type": "application/zip",
        "content-length": str(len(done.content)),
        "etag": done.etag,
        "accept-ranges": "bytes",
        "x-checksum-sha256": digest.hexdigest(),
        "repr-digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        "content-disposition": "attachment; filename=\"clip.zip\"; filename*=UTF-8''clip.zip",
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected


def test_head_tells_the_same_without_a_body(client: httpx.Client, done: Done) -> None:
    head, got = client.head(done.result, headers={"Range": "bytes=0-1"}), client.get(done.result)
    assert head.status_code == 200
    assert head.content == b""
    same = ("content-length", "etag", "content-type", "x-checksum-sha256", "accept-ranges", "content-disposition")
    assert [head.headers[name] for name in same] == [got.headers[name] for name in same]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("0-0", 0, 1), ("0-", 0, None), ("100-199", 100, 200), ("-7", -7, None), ("500-999999999", 500, None)],
)
def test_serves_single_ranges(client: httpx.Client, done: Done, wanted: str, start: int, end: int | None) -> None:
    answer = client.get(done.result, headers={"Range": f"bytes={wanted}"})
    assert answer.status_code == 206
    assert answer.content == done.content[start:end]
    first = len(done.content) + start if start < 0 else start
    last = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(done.content)}"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["etag"] == done.etag


def test_a_download_resumes_where_it_was_cut(client: httpx.Client, done: Done) -> None:
    cut = len(done.content) // 3
    rest = client.get(done.result, headers={"Range": f"bytes={cut}-", "If-Range": done.etag})
    assert rest.status_code == 206
    assert done.content[:cut] + rest.content == done.content


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))},
        {"Range": "pages=1"},
        {"Range": "bytes=5-6", "If-Range": '"another"'},
        {"Range": "bytes=5-6", "If-Range": "Tue, 24 Nov 2026 00:00:00 GMT"},
        {"Range": "bytes=999999999-", "If-Range": '"another"'},
    ],
)
def test_answers_other_ranges_with_the_whole(client: httpx.Client, done: Done, headers: dict[str, str]) -> None:
    answer = client.get(done.result, headers=headers)
    assert (answer.status_code, len(answer.content)) == (200, len(done.content))


@pytest.mark.parametrize("wanted", ["bytes=999999999-", "bytes=-0", "bytes=9-8", "bytes=x"])
def test_refuses_ranges_outside(client: httpx.Client, done: Done, wanted: str) -> None:
    answer = client.get(done.result, headers={"Range": wanted})
    assert problem(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(done.content)}"


def test_what_the_client_has_is_not_sent_again(client: httpx.Client, done: Done) -> None:
    for path in (done.result, f"/jobs/{done.id}/manifest", f"/jobs/{done.id}/frames/1"):
        etag = client.get(path).headers["etag"]
        answer = client.get(path, headers={"If-None-Match": f'"x", {etag}', "Range": "bytes=0-1"})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_serves_the_manifest(client: httpx.Client, done: Done) -> None:
    answer = client.get(f"/jobs/{done.id}/manifest")
    assert answer.headers["content-type"] == "application/json"
    inside = zipfile.ZipFile(io.BytesIO(done.content)).read("manifest.json")
    assert answer.content == inside
    assert len(json.loads(inside)["frames"]) == 40


@pytest.mark.parametrize("cached", [True, False])
def test_serves_single_frames(service: Processing, client: httpx.Client, done: Done, cached: bool) -> None:
    for number in (1, 2, 40):
        if not cached:
            service.cache.delete(f"frames:{done.id}:1")
        answer = client.get(f"/jobs/{done.id}/frames/{number}")
        assert answer.status_code == 200
        assert answer.content == done.archive.images[number - 1]
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert "immutable" in answer.headers["cache-control"]
        assert "private" in answer.headers["cache-control"]


def test_frames_have_the_type_of_their_format(service: Processing, client: httpx.Client) -> None:
    for kind in get_args(ImageFormat):
        done = Done(service, ExtractOptions.model_validate({"format": kind}))
        told = client.get(f"/jobs/{done.id}/frames/1").headers["content-type"]
        assert told == {"jpg": "image/jpeg"}.get(kind, f"image/{kind}")


@pytest.mark.parametrize("number", [0, -1, 41, 10**30])
def test_other_frames_are_missing(client: httpx.Client, done: Done, number: int) -> None:
    assert problem(client.get(f"/jobs/{done.id}/frames/{number}")) == (404, "not_found")


def test_without_a_result_says_why(service: Processing, client: httpx.Client) -> None:
    job_id = service.queue_job()
    paths = [f"/jobs/{job_id}/{what}" for what in ("result", "manifest", "frames/1")]
    for path in paths:
        assert problem(client.get(path)) == (409, "job_not_finished")
    service.leases.fail(service.claim(), CorruptMedia("No moov atom."))
    for path in paths:
        answer = client.get(path)
        assert problem(answer) == (409, "conflict")
        assert "corrupt_media" in answer.json()["detail"]
        assert "No moov atom." in answer.json()["detail"]
    cancelled = service.queue_job()
    service.commands.cancel(ANA, cancelled)
    assert "cancelled" in client.get(f"/jobs/{cancelled}/result").json()["detail"]


def test_a_result_outlives_its_video(service: Processing, client: httpx.Client, done: Done) -> None:
    assert client.delete(f"/videos/{service.row(done.id).video_id}").status_code == 204
    assert client.get(done.result).content == done.content


def test_hostile_names_stay_out_of_the_headers(service: Processing, client: httpx.Client) -> None:
    done = Done(service, name='a"; x=é😀.mp4')
    header = client.get(done.result).headers["content-disposition"]
    assert header == "attachment; filename=\"a_; x=__.zip\"; filename*=UTF-8''a%22%3B%20x%3D%C3%A9%F0%9F%98%80.zip"


def test_a_lost_object_is_missing_and_no_traceback(service: Processing, client: httpx.Client, done: Done) -> None:
    service.storage.delete(service.row(done.id).result_key)
    assert problem(client.get(done.result)) == (404, "not_found")
