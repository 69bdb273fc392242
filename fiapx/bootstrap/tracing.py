"""Sends the traces of this process to a collector, by OTLP over HTTP. Without one nothing of this is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final

import fiapx
from fiapx.bootstrap.instance import instance
from fiapx.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

    from fiapx.bootstrap.spans import OneComplaint

_TIMEOUT: Final = 5.0
"""Seconds for all tries to send a batch; a collector that is away costs nobody else any time."""
_LAST_WORDS: Final = 2.0
_LONGEST: Final = 2000
"""Characters of an attribute, such as a statement or what a stranger sends as a path."""


@contextmanager
def tracing(settings: Settings, service: str, *, edge: bool = False) -> Iterator[None]:
    """Traces go to ``FIAPX_OTLP_URL``, or else where OpenTelemetry's own variable says; to nowhere without either.

    At the `edge` it is we who decide which traces are recorded; behind it they are those of who calls. Once a process.
    """
    url = settings.otlp_url or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not url:
        yield
        return
    exporter = _exporter(url)
    provider = _provider(exporter, service, sampler(settings.trace_sample, edge=edge))
    try:
        yield
    finally:
        ending = Thread(target=provider.shutdown, daemon=True)  # it tries to send the rest for as long as half a minute
        ending.start()
        ending.join(_LAST_WORDS if exporter.well else 0)


def _exporter(url: str) -> OneComplaint:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from fiapx.bootstrap.spans import OneComplaint

    return OneComplaint(OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=_TIMEOUT))


def _provider(exporter: OneComplaint, service: str, choice: Sampler) -> TracerProvider:
    from opentelemetry import propagate, trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from fiapx.adapters.sql_spans import trace_statements
    from fiapx.bootstrap.spans import Discretion

    about = {
        "service.namespace": "fiapx",
        "service.name": service,
        "service.version": fiapx.__version__,
        "service.instance.id": instance(),
    }
    provider = TracerProvider(
        sampler=choice,
        resource=Resource.create(about),
        span_limits=SpanLimits(max_attribute_length=_LONGEST),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(Discretion())
    provider.add_span_processor(BatchSpanProcessor(exporter))
    propagate.set_global_textmap(TraceContextTextMapPropagator())  # and no baggage, which clients could fill
    trace.set_tracer_provider(provider)
    trace_statements()
    return provider


def sampler(share: float, *, edge: bool) -> Sampler:
    """A client that asks to be recorded is drawn like all others."""
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    drawn = TraceIdRatioBased(share)
    return ParentBased(drawn, remote_parent_sampled=drawn) if edge else ParentBased(drawn)
