"""Resumable uploads over real HTTP: tus 1.0.0 with all the extensions that are told of."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from fiapx.core.errors import NotFound, Unavailable
from fiapx.core.events import USER_DELETED, Event
from fiapx.server.gateway.edge import Edge
from fiapx.server.gateway.rates import Rates
from fiapx.server.identity import Verifier
from fiapx.server.processing import tables
from fiapx.server.processing.uploads import receive
from fiapx.server.proxy import Upstream
from tests.api.upstreams import gateway, served
from tests.processing_kit import ANA, BOB, KILO, Processing, eventually, hosting, processing
from tests.s3 import s3_storage

API = "/api/v1"
LIMIT = 512 * KILO
SIZE = 300 * KILO
CONTENT = os.urandom(SIZE)
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path, max_upload_bytes=LIMIT) as service:
        yield service


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens every few megabytes happens every few kilobytes."""
    monkeypatch.setattr(receive, "_PIECE", 16 * KILO)
    monkeypatch.setattr(receive, "_STEP", 64 * KILO)
    monkeypatch.setattr(receive, "_PAUSE", 0)
    monkeypatch.setattr(receive, "_TICK", 0.05)


def metadata(**values: str) -> str:
    encoded = (
        key if not value else f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()
    )
    return ",".join(encoded)


def create(
    client: httpx.Client, size: int = SIZE, content: bytes = b"", path: str = "/uploads", **headers: str
) -> httpx.Response:
    own = {**TUS, "Upload-Length": str(size), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.post(path, headers=own | (BODY if content else {}), content=content)


def patch(client: httpx.Client, where: str, offset: int, content: bytes, **headers: str) -> httpx.Response:
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.patch(where, headers={**TUS, **BODY, "Upload-Offset": str(offset), **own}, content=content)


def offset(client: httpx.Client, where: str) -> int:
    answer = client.head(where, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["tus-resumable"] == "1.0.0"
    return answer.status_code, answer.json()["code"]


def stored(service: Processing, video_id: str) -> bytes:
    return b"".join(service.storage.read(f"videos/{video_id}"))


def test_tells_everybody_what_it_can_do(url: str) -> None:
    answer = httpx.options(f"{url}/uploads", trust_env=False)
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    extensions = {"creation", "creation-with-upload", "expiration", "termination", "checksum"}
    assert set(answer.headers["tus-extension"].split(",")) == extensions
    assert answer.headers["tus-max-size"] == str(LIMIT)
    assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")


def test_a_post_may_stand_for_other_methods_of_uploads(service: Processing, client: httpx.Client) -> None:
    where = create(client).headers["location"]

    def post(method: str, content: bytes = b"", **headers: str) -> httpx.Response:
        own = {"X-HTTP-Method-Override": method, **TUS, **BODY, **headers}
        return client.post(where, headers=own, content=content)

    first = post("PATCH", CONTENT[:KILO], **{"Upload-Offset": "0"})
    assert (first.status_code, first.headers["upload-offset"]) == (204, str(KILO))
    looked = post("HEAD")
    assert (looked.status_code, looked.headers["upload-offset"], looked.content) == (200, str(KILO), b"")
    last = post("PATCH", CONTENT[KILO:], **{"Upload-Offset": str(KILO)})
    assert stored(service, last.headers["fiapx-video-id"]) == CONTENT
    assert post("DELETE").status_code == 204
    assert problem(client.get(where)) == (404, "not_found")


def test_nothing_else_stands_for_another_method(client: httpx.Client) -> None:
    override = {"X-HTTP-Method-Override": "DELETE"}
    where = create(client).headers["location"]
    assert client.get(where, headers=override).json()["offset"] == 0
    assert client.head(where, headers=TUS | override).status_code == 200
    assert client.options("/uploads", headers=override).status_code == 204
    for method in ("GET", "delete", "TRACE", "", "DELETE, HEAD"):
        assert client.post(where, headers=TUS | {"X-HTTP-Method-Override": method}).status_code == 405
    assert offset(client, where) == 0
    video = client.post("/videos", files={"file": ("clip.mp4", b"bytes")}).json()
    assert client.post(f"/videos/{video['id']}", headers=override).status_code == 405
    assert client.get(f"/videos/{video['id']}").status_code == 200


def test_a_gateway_lets_all_this_pass(tmp_path: Path) -> None:
    rates = Rates("100/minute", "3/minute")
    with (
        processing(tmp_path) as service,
        served(Starlette(routes=[Mount(API, service.app)])) as behind,
        gateway(
            {API: Upstream("processing", [behind.url])},
            edge=Edge(Verifier(service.tokens.jwks, service.tokens), rates=rates),
        ) as front,
        service.client(front.url) as client,
    ):
        content = os.urandom(3 * KILO * KILO)
        where = create(client, len(content), path=f"{API}/uploads").headers["location"]
        override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", **TUS, **BODY}
        assert httpx.post(front.url + where, headers=override, content=b"x").status_code == 401
        done = client.post(where, headers=override, content=content)
        assert stored(service, done.headers["fiapx-video-id"]) == content
        for path, method, status in (
            ("uploads", "OPTIONS", 204),
            ("jobs", "OPTIONS", 401),
            ("uploads", "OPTIONS", 429),
        ):
            answer = httpx.request(method, f"{front.url}{API}/{path}", headers=override, trust_env=False)
            assert answer.status_code == status, "strangers are counted, whatever they ask"
            assert ("tus-max-size" in answer.headers) == (status == 204)


def test_pieces_become_a_video(service: Processing, client: httpx.Client) -> None:
    made = create(client, Upload_Metadata=metadata(filename="../férias.mp4", filetype="video/mp4"))
    assert made.status_code == 201
    where = made.headers["location"]
    assert where == f"/uploads/{made.json()['id']}"
    assert parsedate_to_datetime(made.headers["upload-expires"]).timestamp() > time.time() + 3000
    at = 0
    for end in (1, 100 * KILO, 100 * KILO + 7, SIZE - 1):
        answer = patch(client, where, at, CONTENT[at:end])
        assert answer.status_code == 204, answer.text
        assert (answer.headers["upload-offset"], answer.content) == (str(end), b"")
        assert "upload-expires" in answer.headers
        at = end
        assert offset(client, where) == at
        assert client.get(where).json() | {"expires_at": ""} == {
            "id": made.json()["id"],
            "name": "férias.mp4",
            "size": SIZE,
            "offset": at,
            "state": "uploading",
            "expires_at": "",
            "video_id": None,
            "job_id": None,
        }
    assert client.get("/videos").json()["items"] == []
    last = patch(client, where, at, CONTENT[at:])
    assert last.status_code == 204
    video = client.get(f"/videos/{last.headers['fiapx-video-id']}").json()
    assert (video["name"], video["size"]) == ("férias.mp4", SIZE)
    assert video["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert stored(service, video["id"]) == CONTENT
    assert service.objects() == [f"videos/{video['id']}"]
    assert client.get(where).json()["state"] == "finished"
    assert "fiapx-job-id" not in last.headers
    assert service.registry.get_sample_value("fiapx_uploads_total") == 1


def test_metadata_is_told_as_it_was_sent(client: httpx.Client) -> None:
    sent = metadata(filename="../férias.mp4", relativePath="", thumbnail="x") + ", odd /w=="
    where = create(client, 5, Upload_Metadata=sent).headers["location"]
    assert client.head(where, headers=TUS).headers["upload-metadata"] == sent
    assert patch(client, where, 0, b"12345").status_code == 204
    assert client.head(where, headers=TUS).headers["upload-metadata"] == sent, "as a video, too"
    assert "upload-metadata" not in client.head(create(client).headers["location"], headers=TUS).headers


def test_options_make_a_job(service: Processing, client: httpx.Client) -> None:
    meta = metadata(filename="clip.mp4", options=json.dumps({"fps": "2", "format": "png"}), fresh="true")
    answer = create(client, content=CONTENT, Upload_Metadata=meta)
    assert answer.status_code == 201
    assert answer.headers["upload-offset"] == str(SIZE)
    body = answer.json()
    job = client.get(f"/jobs/{body['job_id']}").json()
    assert (job["state"], job["options"]["fps"], job["options"]["format"]) == ("queued", "2", "png")
    assert job["video"] == {"id": body["video_id"], "name": "clip.mp4"}
    assert answer.headers["fiapx-job-id"] == job["id"]
    assert service.events() == ["job.queued"]
    again = client.head(answer.headers["location"], headers=TUS)
    assert (again.headers["upload-offset"], again.headers["fiapx-job-id"]) == (str(SIZE), job["id"])


def test_the_last_answer_may_be_lost(service: Processing, client: httpx.Client) -> None:
    """Completing twice gives the same."""
    made = create(client, content=CONTENT, Upload_Metadata=metadata(options=""))
    again = patch(client, made.headers["location"], SIZE, b"")
    assert again.status_code == 204
    assert again.headers["fiapx-job-id"] == made.headers["fiapx-job-id"]
    assert (service.count(), service.count(tables.videos)) == (1, 1)


@pytest.mark.parametrize("header", ["", "filename", "filename ,filetype", metadata(relativePath="", name="x.mp4")])
def test_takes_metadata_that_says_little(client: httpx.Client, header: str) -> None:
    answer = create(client, Upload_Metadata=header)
    assert answer.status_code == 201
    assert answer.json()["name"] in {"video", "x.mp4"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("filename !!!", (400, "bad_request")),
        ("filename é", (400, "bad_request")),
        ("filename QQ==,filename QQ==", (400, "bad_request")),
        ("filename " + "QQ==" * 8000, (400, "bad_request")),
        (metadata(options="{"), (422, "invalid_options")),
        (metadata(options="[" * 9000), (422, "invalid_options")),
        (metadata(options='{"fps": 0}'), (422, "invalid_options")),
        (metadata(options='{"colour": "red"}'), (422, "invalid_options")),
        (metadata(options="{}", fresh="perhaps"), (422, "invalid_request")),
    ],
)
def test_refuses_metadata(service: Processing, client: httpx.Client, header: str, expected: tuple[int, str]) -> None:
    own = {b"Tus-Resumable": b"1.0.0", b"Upload-Length": b"5", b"Upload-Metadata": header.encode()}
    assert problem(client.post("/uploads", headers=own)) == expected
    assert service.count(tables.uploads) == 0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Upload-Length": "5"}, (412, "precondition_failed")),
        ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, (412, "precondition_failed")),
        (TUS, (400, "bad_request")),
        (TUS | {"Upload-Length": "-1"}, (400, "bad_request")),
        (TUS | {"Upload-Length": "9" * 30}, (400, "bad_request")),
        (TUS | {"Upload-Defer-Length": "1"}, (400, "bad_request")),
        (TUS | {"Upload-Length": str(LIMIT + 1)}, (413, "payload_too_large")),
        (TUS | {"Upload-Length": "0"}, (422, "unsupported_format")),
        (TUS | {"Upload-Length": "5", "Upload-Checksum": "crc32 AAAA"}, (400, "bad_request")),
        (TUS | {"Upload-Length": "5", "Upload-Checksum": "sha1 =x"}, (400, "bad_request")),
    ],
)
def test_refuses_creations(
    service: Processing, client: httpx.Client, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = client.post("/uploads", headers=headers)
    assert problem(answer) == expected
    assert answer.headers.get("tus-version") == ("1.0.0" if expected[0] == 412 else None)
    assert service.count(tables.uploads) == 0
    if "Upload-Checksum" not in headers:
        with_body = client.post("/uploads", headers={**headers, **BODY}, content=b"12345")
        assert problem(with_body) == expected


def test_refuses_bodies_that_do_not_fit(service: Processing, client: httpx.Client) -> None:
    assert problem(create(client, 4, b"12345")) == (413, "payload_too_large")
    where = create(client, 10).headers["location"]
    assert problem(patch(client, where, 0, b"x" * 11)) == (413, "payload_too_large")
    assert problem(patch(client, where, 3, b"x")) == (409, "offset_mismatch")
    assert problem(patch(client, where, 0, b"x", Content_Type="video/mp4")) == (415, "unsupported_media_type")
    assert problem(patch(client, where, 0, b"x", Tus_Resumable="2.0.0")) == (412, "precondition_failed")
    assert problem(patch(client, where, 0, b"x", Upload_Offset="x")) == (400, "bad_request")
    assert problem(patch(client, where, 0, b"x", Upload_Checksum="sha512 QQ==")) == (400, "bad_request")

    def chunked() -> Iterator[bytes]:
        yield b"x" * 8
        yield b"x" * 8

    headers = {**TUS, **BODY, "Upload-Offset": "0"}
    assert problem(client.patch(where, headers=headers, content=chunked())) == (413, "payload_too_large")
    assert offset(client, where) == 0
    assert patch(client, where, 0, b"0123456789").status_code == 204
    assert problem(patch(client, where, 10, b"x")) == (413, "payload_too_large")
    assert problem(patch(client, where, 0, b"")) == (409, "offset_mismatch")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_bytes_with_another_checksum_are_refused(service: Processing, client: httpx.Client, algorithm: str) -> None:
    where = create(client).headers["location"]
    half = 150 * KILO  # of several steps, none of which may be recorded
    wrong = f"{algorithm} {base64.b64encode(hashlib.new(algorithm, b'else').digest()).decode()}"
    assert problem(patch(client, where, 0, CONTENT[:half], Upload_Checksum=wrong)) == (460, "upload_checksum")
    assert offset(client, where) == 0
    for start, end in ((0, half), (half, SIZE)):
        digest = base64.b64encode(hashlib.new(algorithm, CONTENT[start:end]).digest()).decode()
        answer = patch(client, where, start, CONTENT[start:end], Upload_Checksum=f"{algorithm} {digest}")
        assert answer.status_code == 204
    assert stored(service, answer.headers["fiapx-video-id"]) == CONTENT
    assert client.get("/videos").json()["items"][0]["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_what_is_anothers_is_as_if_it_were_not_there(service: Processing, url: str, client: httpx.Client) -> None:
    where = create(client).headers["location"]
    missing = where.replace(where[-6:], "000000")
    with service.client(url, None) as nobody:
        assert nobody.head(where, headers=TUS).status_code == 401
        assert problem(patch(nobody, where, 0, b"x")) == (401, "auth_required")
    with service.client(url, BOB) as bob:
        for path in (where, missing, "/uploads/x", "/uploads/%2E%2E"):
            assert bob.head(path, headers=TUS).status_code == 404
            assert problem(patch(bob, path, 0, b"x")) == (404, "not_found")
            assert problem(bob.delete(path, headers=TUS)) == (404, "not_found")
            assert problem(bob.get(path)) == (404, "not_found")
    assert offset(client, where) == 0


def test_a_deleted_upload_leaves_nothing(service: Processing, client: httpx.Client) -> None:
    where = create(client, SIZE, CONTENT[:1000]).headers["location"]
    assert len(service.objects()) == 1
    assert client.delete(where, headers=TUS).status_code == 204
    assert service.objects() == []
    assert problem(patch(client, where, 1000, b"x")) == (404, "not_found")
    assert problem(client.delete(where, headers=TUS)) == (404, "not_found")
    done = create(client, content=CONTENT)
    assert client.delete(done.headers["location"], headers=TUS).status_code == 204
    assert stored(service, done.headers["fiapx-video-id"]) == CONTENT


def test_the_same_key_gives_the_same_upload(service: Processing, client: httpx.Client) -> None:
    first = create(client, Idempotency_Key="k1")
    assert patch(client, first.headers["location"], 0, CONTENT[:1000]).status_code == 204
    again = create(client, content=CONTENT, Idempotency_Key="k1")
    assert again.headers["location"] == first.headers["location"]
    assert (again.headers["idempotency-replayed"], again.headers["upload-offset"]) == ("true", "1000")
    assert problem(create(client, SIZE + 1, Idempotency_Key="k1")) == (422, "idempotency_mismatch")
    client.delete(first.headers["location"], headers=TUS)
    assert create(client, Idempotency_Key="k1").headers["location"] != first.headers["location"]
    assert service.count(tables.uploads) == 1


def test_a_user_may_have_so_many_unfinished_uploads(service: Processing, url: str, client: httpx.Client) -> None:
    for _ in range(100):
        assert create(client).status_code == 201
    assert problem(create(client)) == (429, "rate_limited")
    with service.client(url, BOB) as bob:
        assert create(bob).status_code == 201


class Slow:
    """A PATCH by hand, of which some has been sent."""

    def __init__(self, service: Processing, url: str, where: str, at: int, content: bytes, size: int = 0) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=10)
        head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.tokens.token(ANA)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (TUS | BODY).items())
        head += f"Upload-Offset: {at}\r\nContent-Length: {size or SIZE - at}\r\n\r\n"
        self.socket.sendall(head.encode() + content)

    def answer(self) -> bytes:
        return self.socket.recv(4096)

    def leave(self) -> None:
        self.socket.close()


def test_what_came_before_a_client_left_is_kept(service: Processing, url: str, client: httpx.Client) -> None:
    where = create(client).headers["location"]
    slow = Slow(service, url, where, 0, CONTENT[: 100 * KILO + 5])
    eventually(lambda: client.get(where).json()["offset"] >= 64 * KILO)  # recorded while the body still comes
    slow.leave()
    eventually(lambda: bool(client.get(where).json()["offset"] == 100 * KILO + 5))
    service.uploads.hashes.take(service.upload_store.find(ANA.user_id, where.rpartition("/")[2]))
    last = patch(client, where, 100 * KILO + 5, CONTENT[100 * KILO + 5 :])
    assert stored(service, last.headers["fiapx-video-id"]) == CONTENT
    assert client.get("/videos").json()["items"][0]["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_pieces_begin_at_whole_blocks(
    service: Processing, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the file, wherever an earlier request has stopped: at other places they could not be written directly."""
    where, begins, pwrite = create(client).headers["location"], [], os.pwrite

    def noting(fd: int, data: memoryview, position: int) -> int:
        begins.append(position)
        return pwrite(fd, data, position)

    patch(client, where, 0, CONTENT[:5])
    monkeypatch.setattr(os, "pwrite", noting)
    last = patch(client, where, 5, CONTENT[5:])
    assert begins == [5, *range(16 * KILO, len(CONTENT), 16 * KILO)]
    assert stored(service, last.headers["fiapx-video-id"]) == CONTENT


def test_the_newer_of_two_writers_wins(service: Processing, url: str, client: httpx.Client) -> None:
    where = create(client).headers["location"]
    zombie = Slow(service, url, where, 0, b"z" * (80 * KILO))
    eventually(lambda: client.get(where).json()["offset"] >= 64 * KILO)
    client.delete(where, headers={})  # without a version: changes nothing
    at = offset(client, where)
    started = time.monotonic()
    answer = patch(client, where, at, CONTENT[at:])
    assert answer.status_code == 204
    assert time.monotonic() - started < 2.5  # no copy was needed
    assert b" 409 " in zombie.answer()
    zombie.leave()
    assert stored(service, answer.headers["fiapx-video-id"]) == b"z" * at + CONTENT[at:]


def test_two_writers_at_once_leave_no_mixture(service: Processing, url: str, client: httpx.Client) -> None:
    where = create(client).headers["location"]
    answers: list[int] = []

    def write(letter: bytes) -> None:
        with service.client(url) as own:
            answers.append(patch(own, where, 0, letter * SIZE).status_code)

    threads = [threading.Thread(target=write, args=(b"%c" % letter,)) for letter in b"abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(204) == 1
    assert set(answers) <= {204, 409}
    content = stored(service, where.rpartition("/")[2])
    assert content == content[:1] * SIZE
    assert client.get("/videos").json()["items"][0]["sha256"] == hashlib.sha256(content).hexdigest()


def _away(*_: object) -> None:
    raise Unavailable


def test_a_full_upload_is_finished_without_its_client(
    service: Processing, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after a crash between the last byte and the rows."""
    where = create(client, Upload_Metadata=metadata(options="")).headers["location"]
    claim = service.upload_store.claim(ANA.user_id, where.rpartition("/")[2])
    with service.partials.append(claim.id, 0, claim.epoch) as writer:
        writer.write(CONTENT)
        service.upload_store.advance(claim, writer.sync())
    service.maintenance.sweep(age=0)
    assert client.get(where).json()["state"] == "storing"
    monkeypatch.setattr("fiapx.server.processing.uploads.service._QUIET", -1)
    with monkeypatch.context() as broken:
        broken.setattr(service.uploads.partials, "assemble", _away)
        service.uploads.finish_left()
    assert client.get(where).json()["state"] == "storing"
    service.partials.assemble(claim.id, f"videos/{claim.id}", SIZE)
    service.maintenance.sweep(age=0)  # between the object and its rows
    service.uploads.finish_left()
    body = client.get(where).json()
    assert (body["state"], body["offset"]) == ("finished", SIZE)
    assert client.get(f"/jobs/{body['job_id']}").json()["state"] == "queued"
    service.maintenance.sweep(age=0)
    assert service.objects() == [f"videos/{claim.id}"]


def test_uploads_that_wait_too_long_are_removed(tmp_path: Path, host: Any) -> None:
    with (
        processing(tmp_path, upload_ttl=1.0) as service,
        host.serve(service.app) as url,
        service.client(url) as client,
    ):
        where = create(client, content=CONTENT[:1000]).headers["location"]
        done = create(client, 4, b"done").json()
        service.maintenance.sweep(age=0)
        assert len(service.objects()) == 2
        eventually(lambda: client.get(where).status_code == 404)
        assert client.head(where, headers=TUS).status_code == 404
        assert problem(patch(client, where, 1000, b"x")) == (404, "not_found")
        service.maintenance.sweep(age=3600)
        assert service.objects() == [f"videos/{done['video_id']}"]
        eventually(lambda: service.maintenance.sweep(age=0) >= 0 and service.count(tables.uploads) == 0)
        service.draining.set()


def test_bytes_that_no_upload_wants_are_swept(service: Processing, client: httpx.Client) -> None:
    where = create(client, content=CONTENT[:10]).headers["location"]
    with service.partials.append("00000000-0000-4000-8000-000000000000", 0, 1) as writer:
        writer.write(b"nobody's")
        writer.sync()
    assert service.maintenance.sweep(age=3600) == 0
    assert service.maintenance.sweep(age=0) == 1
    assert offset(client, where) == 10


def test_uploads_end_with_their_user(service: Processing, client: httpx.Client) -> None:
    where = create(client, content=CONTENT[:10]).headers["location"]
    service.commands.user_deleted(Event(id="e1", type=USER_DELETED, subject=ANA.user_id, created_ms=0))
    assert service.objects() == []
    assert problem(patch(client, where, 10, b"x")) == (404, "not_found")
    assert problem(create(client)) == (401, "invalid_token")


# --- several instances, and other places --------------------------------------------------------


@pytest.fixture(params=["disk", "s3"])
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Processing, Processing]]:
    """Two instances of the service on one database and one storage."""
    storage = None
    if request.param == "s3":
        storage = s3_storage(request.getfixturevalue("s3_server"), tmp_path / "scratch")
    with processing(tmp_path, storage=storage) as one, processing(tmp_path, storage=storage) as other:
        other.tokens = one.tokens
        other.app.state.verifier = one.app.state.verifier
        yield one, other


def test_any_instance_goes_on_and_an_older_writer_elsewhere_is_ended(twins: tuple[Processing, Processing]) -> None:
    one, other = twins
    with (
        hosting() as first,
        hosting() as second,
        first.serve(one.app) as here,
        second.serve(other.app) as there,
        one.client(here) as client,
        one.client(there) as neighbour,
    ):
        where = create(client, Upload_Metadata=metadata(filename="a.mp4", options="")).headers["location"]
        zombie = Slow(one, here, where, 0, CONTENT[: 80 * KILO])
        eventually(lambda: neighbour.get(where).json()["offset"] >= 64 * KILO)
        at = offset(neighbour, where)
        assert patch(neighbour, where, at, CONTENT[at : at + 1000]).headers["upload-offset"] == str(at + 1000)
        zombie.socket.sendall(b"z" * (100 * KILO))
        assert b" 409 " in zombie.answer()
        zombie.leave()
        at += 1000
        for turn, end in enumerate((at + 70 * KILO, SIZE - 5, SIZE)):
            answer = patch((client, neighbour)[turn % 2], where, at, CONTENT[at:end])
            assert answer.status_code == 204, answer.text
            at = end
        assert stored(one, answer.headers["fiapx-video-id"]) == CONTENT
        video = client.get(f"/videos/{answer.headers['fiapx-video-id']}").json()
        assert video["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert [key for key, _ in one.storage.list("")] == [f"videos/{video['id']}"]
        assert one.count() == 1


def test_who_finishes_too_late_leaves_the_video(
    service: Processing, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request has finished the upload meanwhile, and its client has deleted what is left of it."""
    where = create(client).headers["location"]
    claim = service.upload_store.claim(ANA.user_id, where.rpartition("/")[2])
    with service.partials.append(claim.id, 0, claim.epoch) as writer:
        writer.write(CONTENT)
        service.upload_store.advance(claim, writer.sync())
    upload = service.upload_store.find(ANA.user_id, claim.id)
    assemble = service.partials.assemble

    def slow(*upload_and_place: Any) -> str | None:
        read = assemble(*upload_and_place)
        monkeypatch.undo()
        service.uploads.finish(upload)
        service.uploads.delete(ANA, claim.id)
        return read

    monkeypatch.setattr(service.partials, "assemble", slow)
    with pytest.raises(NotFound):
        service.uploads.finish(upload)
    assert stored(service, claim.id) == CONTENT
