"""Traces cost nothing while nobody wants them, and nobody but the log notices a collector that is away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fiapx.bootstrap.spans import Discretion, OneComplaint
from fiapx.bootstrap.tracing import sampler
from fiapx.core.tracing import continued, traceparent
from scripts.servers.process import free_port
from tests.collector import collecting

CLIENT = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


def _modules(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_without_a_collector_nothing_is_loaded(tmp_path: Path) -> None:
    assert not [name for name in _modules("import fiapx.cli.main") if name.startswith("opentelemetry")]
    up = "from fiapx.bootstrap import embedded; from fiapx.settings import Settings; from pathlib import Path"
    serve = f"with embedded(Settings(home=Path({str(tmp_path)!r})), 'http://127.0.0.1'): pass"
    assert not {"opentelemetry.sdk", "google.protobuf"} & _modules(f"{up}\n{serve}")


@pytest.mark.parametrize(("edge", "share", "recorded"), [(True, 0, False), (True, 1, True), (False, 0, True)])
def test_a_client_does_not_decide_what_is_recorded_and_the_gateway_does(
    edge: bool, share: float, recorded: bool
) -> None:
    tracer = TracerProvider(sampler=sampler(share, edge=edge)).get_tracer("test")
    caller = TraceContextTextMapPropagator().extract(CLIENT)
    assert tracer.start_span("request", caller).is_recording() is recorded


def test_an_outage_of_the_collector_is_told_once_and_its_end() -> None:
    port = free_port()
    exporter = OneComplaint(OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=0.2))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            tracer.start_span("lost").end()
        with collecting(port) as collector:
            for _ in range(2):
                tracer.start_span("taken").end()
    provider.shutdown()
    assert [line["event"] for line in lines] == ["traces_not_taken", "traces_taken_again"]
    assert [span.name for span in collector.spans()] == ["taken", "taken"]


def test_queries_of_addresses_are_hidden() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Discretion())
    span = provider.get_tracer("test").start_span("GET", attributes={"url.query": "token=sesame", "url.path": "/"})
    assert span.attributes == {"url.query": "REDACTED", "url.path": "/"}  # type: ignore[attr-defined]  # the SDK's own


@pytest.mark.parametrize(
    "parent", [None, "", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", 7, b"x", "\0" * 99]
)
def test_what_names_no_span_is_no_trace(parent: object) -> None:
    with continued(parent):
        assert traceparent() is None
