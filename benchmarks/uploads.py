"""Uploads by tus: through our gateway and processing, into a folder, against @tus/server on Node.

    python -m benchmarks.uploads [--mib 1024] [--rounds 5]

Ours are `serve gateway`, `serve auth` and `serve processing` on private PostgreSQL, RabbitMQ and Redis: two hops, a
token that is verified twice, SHA-256, everything on stable storage before the answer, and a video in the database. The
peer is one process that writes a file; where npm is missing, ours are measured alone. The client is the same: one body,
by sendfile(2). Rounds alternate; medians.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scripts.servers.process import free_port
from scripts.stack import Stack, running
from tests.stack.kit import User

MIB: Final = 1024 * 1024
_PEER: Final = """
import http from 'node:http'
import { Server } from '@tus/server'
import { FileStore } from '@tus/file-store'
const server = new Server({ path: '/files', datastore: new FileStore({ directory: process.argv[2] }) })
http.createServer(server.handle.bind(server)).listen(Number(process.argv[3]), '127.0.0.1', () => console.log('ready'))
"""
_HEAD_END: Final = b"\r\n\r\n"


def upload(base: str, path: str, content: Path, headers: dict[str, str]) -> float:
    """Create an upload and send it in one body; the seconds until the last answer."""
    size = content.stat().st_size
    parts = urlsplit(base)
    began = time.perf_counter()
    with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        common = {"Host": parts.netloc, "Tus-Resumable": "1.0.0", **headers}
        creation = {**common, "Upload-Length": str(size), "Content-Length": "0"}
        connection.sendall(_request("POST", path, creation))
        where = re.search(rb"(?im)^location: *(?:https?://[^/]+)?(\S+)", _answer(connection, b"201"))
        assert where is not None
        body = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream", "Content-Length": str(size)}
        connection.sendall(_request("PATCH", where[1].decode(), common | body))
        with content.open("rb") as file:
            connection.sendfile(file)
        _answer(connection, b"204")
    return time.perf_counter() - began


def _request(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + _HEAD_END


def _answer(connection: socket.socket, status: bytes) -> bytes:
    """An answer with its body, if it has one."""
    data = b""
    while _HEAD_END not in data:
        data += connection.recv(65536) or sys.exit("the server closed the connection")
    head, _, body = data.partition(_HEAD_END)
    if head.split(b" ", 2)[1] != status:
        sys.exit(data.decode(errors="replace"))
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    left = (int(length[1]) if length else 0) - len(body)
    while left > 0:
        left -= len(connection.recv(left))
    return head


@contextmanager
def peer(folder: Path) -> Iterator[tuple[str, int]]:
    """@tus/server with its file store: its address, and its process id. npm fetches it."""
    (folder / "package.json").write_text('{"type": "module"}')
    packages = ["@tus/server@2", "@tus/file-store@2"]
    subprocess.run(["npm", "install", "--silent", *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "peer.js").write_text(_PEER)
    port, store = free_port(), folder / "store"
    with subprocess.Popen(["node", "peer.js", store, str(port)], cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        select.select([process.stdout], [], [], 30)
        try:
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()


def peak(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def warm(folder: Path, size: int) -> None:
    """Have the memory at hand that a file of this size takes: a virtual machine may have to get it from its host, and
    whoever comes first would pay for that."""
    path = folder / "warm"
    with path.open("wb") as file:
        for _ in range(2 * size // MIB):
            file.write(bytes(MIB))
    path.unlink()
    os.sync()


def measure(
    stack: Stack, node: tuple[str, int] | None, content: Path, store: Path, rounds: int
) -> dict[str, list[float]]:
    """The seconds of each round by name; the first round of each is for warming up."""
    with User.registered(stack.url) as ana:
        token = {"Authorization": f"Bearer {ana.tokens['access_token']}"}

        def ours() -> float:
            spent = upload(stack.url, "/api/v1/uploads", content, token)
            for video in ana.client.get("/videos").raise_for_status().json()["items"]:
                ana.client.delete(f"/videos/{video['id']}").raise_for_status()
            return spent

        def theirs(base: str) -> float:
            spent = upload(base, "/files", content, {})
            for path in store.iterdir():
                path.unlink()
            return spent

        ways: list[tuple[str, Callable[[], float]]] = [("fiapx", ours)]
        if node is not None:
            ways.append(("@tus/server", partial(theirs, node[0])))
        seconds: dict[str, list[float]] = {name: [] for name, _ in ways}
        for number in range(rounds + 1):
            for name, way in ways if number % 2 else reversed(ways):
                warm(store, content.stat().st_size)
                spent = way()
                if number:
                    seconds[name].append(spent)
    return seconds


def report(stack: Stack, node: tuple[str, int] | None, seconds: dict[str, list[float]], size: int) -> None:
    memory = {"fiapx": peak(stack.roles["gateway-1"].pid)} | ({"@tus/server": peak(node[1])} if node else {})
    print(f"| {'':<12} | MB/s, median | MB/s, each | peak memory |\n|---|---|---|---|")
    for name, spent in seconds.items():
        rates = [size / 1e6 / one for one in spent]
        each = ", ".join(f"{rate:.0f}" for rate in rates)
        print(f"| {name:<12} | {statistics.median(rates):.0f} | {each} | {memory[name]:.0f} MB |")
    middle = {name: statistics.median(spent) for name, spent in seconds.items()}
    ratio = f"ratio {middle['@tus/server'] / middle['fiapx']:.2f}" if node else "no npm, so nothing to compare with"
    print(f"\n{ratio}; processing's peak {peak(stack.roles['processing-1'].pid):.0f} MB; load {os.getloadavg()}")


def compare(mib: int, rounds: int) -> None:
    """Print the speeds of uploads of so many MiB."""
    with tempfile.TemporaryDirectory(prefix="fiapx-uploads-") as temporary, ExitStack() as opened:
        folder = Path(temporary)
        content, node_folder = folder / "content", folder / "node"
        with content.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        (node_folder / "store").mkdir(parents=True)
        log = opened.enter_context((folder / "log").open("w"))
        node = opened.enter_context(peer(node_folder)) if shutil.which("npm") else None
        settings = {"FIAPX_ACCESS_TTL": "86400"}
        stack = opened.enter_context(
            running(folder / "stack", lambda name, line: print(name, line, file=log), settings=settings)
        )
        report(stack, node, measure(stack, node, content, node_folder / "store", rounds), mib * MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    compare(options.mib, options.rounds)


if __name__ == "__main__":
    main()
