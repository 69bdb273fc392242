"""A large body passes through: it is neither held in memory nor limited by it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Server
from tests.e2e.processes import peak_memory

MIB = 1 << 20
_CHUNK = bytes(MIB)


def _zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield _CHUNK


def _upload(server: Server, token: str, size: int, headers: dict[str, str]) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    kind = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    try:
        connection.request(
            "POST",
            "/api/v1/videos?name=zeros.bin",
            _zeros(size),
            headers | kind,
            encode_chunked="Content-Length" not in headers,
        )
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 201, content
        return dict(json.loads(content))
    finally:
        connection.close()


@pytest.mark.timeout(240)
def test_two_gibibytes_add_at_most_64_mb_of_memory(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        ana = server.account()
        _upload(server, ana.token, MIB, {"Content-Length": str(MIB)})
        before = peak_memory(server.pid)
        sizes = {
            2048 * MIB: {"Content-Length": str(2048 * MIB)},
            512 * MIB: {"Transfer-Encoding": "chunked"},
        }
        for size, headers in sizes.items():
            video = _upload(server, ana.token, size, headers)
            assert video["size"] == size
            assert (server.home / "storage" / "videos" / str(video["id"])).stat().st_size == size
            ana.request("DELETE", f"/videos/{video['id']}").raise_for_status()
            assert not server.files(f"videos/{video['id']}")
        assert peak_memory(server.pid) - before <= 64_000_000
        assert len(server.files()) == 1
