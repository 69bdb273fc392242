"""Logging: one event a line on stderr, of structlog and the standard library alike."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from fiapx.core.text import visible


def configure_logging(level: str, format: Literal["auto", "json", "console"] = "auto") -> None:  # noqa: A002
    """Send all logs to stderr; ``auto`` is for people on a terminal and JSON elsewhere. May be called again."""
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(), processors=[*_unwrap(), *(_console() if console else _json())]
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    _tame(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The trace that a line belongs to: the same in all processes."""
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        event["trace_id"] = trace.format_trace_id(current.trace_id)
    return event


def _unwrap() -> list[Processor]:
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta]


def _json() -> list[Processor]:
    return [structlog.processors.JSONRenderer(default=repr)]  # ASCII only: escapes whatever could fool a terminal


def _console() -> list[Processor]:
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return [
        _show_hidden_characters,
        structlog.dev.ConsoleRenderer(
            colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _show_hidden_characters(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A terminal obeys control characters, and these may come from a stranger's file name."""
    return {key: _safe(value, keep="\n\t" if key == "exception" else "") for key, value in event.items()}


def _safe(value: Any, keep: str) -> Any:
    if isinstance(value, int | float | None):
        return value
    return visible(value if isinstance(value, str) else repr(value), keep=keep)


def _tame(level: str) -> None:
    """uvicorn brings its own handlers, and its request lines repeat ours with query strings."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.propagate = False
    access.setLevel("CRITICAL")
    for name in ("alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel("INFO" if level == "DEBUG" else "WARNING")
    for name in ("pika", "opentelemetry"):  # we tell of outages ourselves, once
        logging.getLogger(name).setLevel("INFO" if level == "DEBUG" else "CRITICAL")
