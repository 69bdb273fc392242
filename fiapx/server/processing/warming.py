"""Filling the cache before the first request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from fiapx.server.processing.queries import Queries

log = structlog.get_logger(__name__)

PAGE: Final = 50
"""What a list gives where the client does not say how many."""


def warm(queries: Queries, user_ids: Iterable[str]) -> None:
    """Load the first pages of these users' videos and jobs. Failing is no reason not to start."""
    try:
        for user_id in user_ids:
            queries.videos(user_id, None, None, PAGE)
            queries.jobs(user_id, None, None, PAGE)
    except Exception as error:  # noqa: BLE001 - whatever it is, the first request finds out as well
        log.warning("cache_not_warmed", error=str(error))
