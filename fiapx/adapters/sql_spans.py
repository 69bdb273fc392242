"""A span for each SQL statement of a trace: its text, in which values are placeholders, and how long it took.

OpenTelemetry's own instrumentation is for SQLAlchemy before 2.1.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext, ExecutionContext

from fiapx.core.tracing import TRACER, failed

_SPAN: Final = "fiapx_span"


def trace_statements() -> None:
    """For every engine of this process. What belongs to no trace, such as looking for work, is left out."""
    if not event.contains(Engine, "before_cursor_execute", _begin):
        event.listen(Engine, "before_cursor_execute", _begin)
        event.listen(Engine, "after_cursor_execute", _end)
        event.listen(Engine, "handle_error", _fail)


def _begin(connection: Connection, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool) -> None:
    if context is None or not trace.get_current_span().is_recording():
        return
    system, operation = connection.dialect.name, statement.split(None, 1)[0].upper()
    attributes = {"db.system.name": system, "db.operation.name": operation, "db.query.text": statement}
    namespace = connection.engine.url.database
    if namespace and system != "sqlite":  # whose name is a path
        attributes["db.namespace"] = namespace
    span = TRACER.start_span(f"{operation} {system}", kind=SpanKind.CLIENT, attributes=attributes)
    setattr(context, _SPAN, span)


def _end(_connection: Connection, _cursor: Any, _statement: str, _values: Any, context: Any, _many: bool) -> None:
    if span := getattr(context, _SPAN, None):
        span.end()


def _fail(error: ExceptionContext) -> None:
    context: ExecutionContext | None = error.execution_context
    if span := getattr(context, _SPAN, None):
        failed(error.original_exception, span)
        span.end()
