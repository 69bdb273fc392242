"""Traces: what one request causes, in whichever process and however much later, as spans of one tree.

Of OpenTelemetry this is the interface alone, which does next to nothing until a process has a collector to send to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

TRACER: Final = trace.get_tracer("fiapx")
TRACEPARENT: Final = "traceparent"
"""The header, and the column, that names a span to those who go on with its work (W3C Trace Context)."""

Attributes = Mapping[str, str | int | float | bool]


def traceparent() -> str | None:
    """The current span, as text; None outside of a trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(TRACEPARENT)


@contextmanager
def continued(parent: object) -> Iterator[None]:
    """Spans within go on with the trace that `parent` names; what is no such name begins a new one."""
    carrier = {TRACEPARENT: parent} if isinstance(parent, str) else {}
    token = context.attach(propagate.extract(carrier, Context()))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    started: float | None = None,
) -> Iterator[Span]:
    """One step of a trace; it may have `started` before, at that monotonic time.

    Neither attributes nor names hold anything personal or secret. Of an error its type alone is told: messages quote
    addresses.
    """
    with TRACER.start_as_current_span(
        name,
        kind=kind,
        attributes=attributes,
        start_time=None if started is None else _wall_clock(started),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            failed(error, current)
            raise


def step(name: str, started: float) -> None:
    """A step that has just ended, and had `started` at that monotonic time."""
    TRACER.start_span(name, start_time=_wall_clock(started)).end()


def failed(error: BaseException, which: Span | None = None) -> None:
    """Mark a span, the current one where no other is given."""
    marked = which or trace.get_current_span()
    marked.set_attribute("error.type", type(error).__qualname__)
    marked.set_status(StatusCode.ERROR)


def _wall_clock(monotonic: float) -> int:
    """Nanoseconds since 1970."""
    return time.time_ns() - int((time.monotonic() - monotonic) * 1e9)
