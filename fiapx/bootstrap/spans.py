"""What happens to spans on their way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = structlog.get_logger(__name__)

_QUERY: Final = "url.query"


class Discretion(SpanProcessor):
    """Hides the queries of addresses: clients put there whatever they like, tokens among it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        del parent_context
        if span.attributes and _QUERY in span.attributes:
            span.set_attribute(_QUERY, "REDACTED")


class OneComplaint(SpanExporter):
    """Says once that spans are lost, and once that they are not any more. `exporter` need not say anything."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.well = True
        """The last batch was taken, or none was sent yet."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        well = result is SpanExportResult.SUCCESS
        if well != self.well:
            self.well = well
            if well:
                log.info("traces_taken_again")
            else:
                log.warning("traces_not_taken", hint="Spans are dropped until the collector of FIAPX_OTLP_URL answers.")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
