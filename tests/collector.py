"""A collector of traces: takes OTLP over HTTP, as Jaeger and Tempo do, and keeps all spans for tests to look at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class Seen:
    """A span, and the service that told of it. Ids are hexadecimal; `parent` is empty at a trace's root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    start: int
    end: int


class Collector:
    """What has come so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._bodies: list[bytes] = []
        self._spans: list[Seen] = []
        self._read = 0
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """Keep a request for when somebody looks."""
        self._bodies.append(body)

    def raw(self) -> bytes:
        """All that was ever sent."""
        return b"".join(self._bodies)

    def spans(self) -> list[Seen]:
        with self._lock:
            while len(self._bodies) > self._read:
                self._spans += _spans(self._bodies[self._read])
                self._read += 1
            return list(self._spans)

    def trace(self, trace_id: str) -> list[Seen]:
        """The spans of one trace, in the order of their beginnings."""
        return sorted((span for span in self.spans() if span.trace == trace_id), key=lambda span: span.start)


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector on this port, or a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nobody wants to know."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _spans(body: bytes) -> Iterator[Seen]:
    for told in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(told.resource.attributes)["service.name"]
        for scope in told.scope_spans:
            for span in scope.spans:
                yield Seen(
                    service=service,
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    attributes=_attributes(span.attributes),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")

    return {pair.key: value(pair) for pair in pairs}
