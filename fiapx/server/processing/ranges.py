"""Conditional and partial requests (RFC 9110, sections 13 and 14) for objects with a strong ETag."""

from __future__ import annotations

import re
from typing import Final

from fiapx.core.errors import RangeNotSatisfiable

_SINGLE: Final = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range of a ``Range`` header, or None for the whole object.

    Other units and several ranges are answered with the whole. Raises RangeNotSatisfiable.
    """
    unit, equals, what = (header or "").partition("=")
    if unit.strip().lower() != "bytes" or not equals or "," in what:
        return None
    match = _SINGLE.fullmatch(what)
    first, last = match.groups() if match else ("", "")
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        raise RangeNotSatisfiable
    if start >= end:
        raise RangeNotSatisfiable
    return start, end


def none_match(header: str | None, etag: str) -> bool:
    """``If-None-Match``: is it a 304?"""
    if header is None:
        return False
    return header.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in header.split(",")}


def if_range(header: str | None, etag: str) -> bool:
    """``If-Range``: may a range be answered? Dates never match, nor do weak tags."""
    return header is None or header.strip() == etag
