"""A resumable upload through gateways to two instances of processing, which end on the way."""

from __future__ import annotations

import base64
import hashlib
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.stack import RoleProcess, Stack
from tests.media.clips import X264, Clip
from tests.stack.kit import User, verified, wait_until_ready

TUS = {"Tus-Resumable": "1.0.0"}
MIB = 1024 * 1024


def offset(user: User, where: str) -> int:
    answer = user.client.head(where, headers=TUS).raise_for_status()
    return int(answer.headers["upload-offset"])


class Ending:
    """A body in the middle of which a process is told to end, be it the one that takes the body or another."""

    def __init__(self, process: RoleProcess, how: signal.Signals, content: bytes) -> None:
        self._process, self._how, self._content = process, how, content

    def __iter__(self) -> Iterator[bytes]:
        middle = len(self._content) // 2
        yield self._content[:middle]
        self._process.stop(self._how)
        for start in range(middle, len(self._content), MIB):
            yield self._content[start : start + MIB]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.fault(1, "SIGKILL of a gateway in the middle of a body")),
        pytest.param(
            signal.SIGTERM,
            marks=[pytest.mark.fault(12, "SIGTERM of a gateway in the middle of a body"), pytest.mark.lengthy],
        ),
    ],
    ids=["killed", "told to end"],
)
def test_an_upload_survives_the_ends_of_gateways_and_services(
    stack: Stack, ana: User, tmp_path: Path, how: signal.Signals
) -> None:
    clip = Clip("clip.mp4", (*X264, "-g", "25")).make(tmp_path).read_bytes()
    content = clip + random.Random(3).randbytes(64 * MIB)  # what follows a video is no part of it
    pairs = {"filename": "long.mp4", "options": '{"fps": "2"}'}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
    headers = {**TUS, "Upload-Length": str(len(content)), "Upload-Metadata": metadata}
    made = ana.client.post("/uploads", headers=headers).raise_for_status()
    where = made.headers["location"].removeprefix("/api/v1")
    victims = [*stack.of("processing"), stack.of("gateway")[0]]
    for victim in victims:
        start = offset(ana, where)
        body = {**TUS, "Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
        try:
            piece = Ending(victim, how, content[start : start + 20 * MIB])
            answer = ana.client.patch(where, headers=body, content=piece)
            assert answer.status_code in {204, 409, 503}, answer.text
        except httpx.TransportError:
            pass
        victim.start()
        victim.wait()
        wait_until_ready(stack)
    start = offset(ana, where)
    body = {**TUS, "Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
    last = ana.client.patch(where, headers=body, content=content[start:])
    assert last.status_code == 204, last.text
    job = ana.completed(last.headers["fiapx-job-id"])
    assert job["video"]["name"] == "long.mp4"
    video = ana.client.get(f"/videos/{last.headers['fiapx-video-id']}").raise_for_status().json()
    assert (video["size"], video["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    verified(stack)
