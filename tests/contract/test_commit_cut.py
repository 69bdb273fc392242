"""A connection to PostgreSQL that is cut during COMMIT: whether it took effect, only the database knows."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from fiapx.adapters.db import migrate, open_database
from scripts.servers.postgres import PrivatePostgres
from tests.faults.table import Observed
from tests.postgres import empty
from tests.processing_kit import hosting, processing

_COMMIT = b"COMMIT\0"


class Wire:
    """A proxy that cuts the connection which sends a COMMIT while `armed`: before the server has it, or so many seconds
    before it does."""

    def __init__(self, port: int, *, delivered: float | None) -> None:
        self.armed, self.cuts = threading.Event(), 0
        self._target, self._delivered = port, delivered

    @contextmanager
    def open(self) -> Iterator[int]:
        """The port of the proxy."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepting = threading.Thread(target=self._accept, args=(listener,))
            accepting.start()
            try:
                yield listener.getsockname()[1]
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(65536):
                if data.endswith(_COMMIT) and self.armed.is_set():
                    self.armed.clear()
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    if self._delivered is not None:
                        time.sleep(self._delivered)
                        server.sendall(data)
                    break
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with server, suppress(OSError):
            while data := server.recv(65536):
                with suppress(OSError):
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.mark.fault(21, "the connection cut during COMMIT, before or after the server has it")
@pytest.mark.parametrize("delivered", [None, 0.0, 1.0], ids=["before", "after", "a second before"])
def test_a_retry_with_its_key_makes_one_job(
    postgres_server: PrivatePostgres, tmp_path: Path, observed: Observed, delivered: float | None
) -> None:
    wire = Wire(postgres_server.port, delivered=delivered)
    with wire.open() as port, hosting() as host:
        engine = open_database(postgres_server.url("processing").replace(f":{postgres_server.port}/", f":{port}/"))
        migrate(engine, "processing")
        empty(engine)
        with processing(tmp_path, engine=engine) as service, host.serve(service.app) as url:
            with service.client(url) as client:
                client.get("/jobs").raise_for_status()
                wire.armed.set()
                first = _upload(client)
                with observed.recovery():
                    again = _upload(client)
                (video,) = client.get("/videos").json()["items"]
            assert (first, again, wire.cuts, service.count()) == (503, 201, 1, 1)
            assert f"videos/{video['id']}" in service.objects()
    observed.says("503, then 201 for the retry; one job")


def _upload(client: httpx.Client) -> int:
    files = {"file": ("clip.mp4", b"video bytes")}
    return client.post("/jobs", files=files, headers={"Idempotency-Key": "one"}).status_code
