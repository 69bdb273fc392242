"""Exact numbers and times as people write them: rates, intervals, positions in a video."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

_UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "min": Fraction(60), "h": Fraction(3600)}
_UNIT_TIME = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|min|s|m|h))+")
_CLOCK_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_PLAIN = re.compile(r"\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?")
_MAX_TEXT = 64
MAX_POSITIONS = 1000
_From0 = Annotated[float, Field(ge=0)]
_Above0 = Annotated[float, Field(gt=0)]
"""Numbers in JSON, beside text."""


def parse_number(value: Any) -> Fraction:
    """An exact, non-negative number from ``2``, ``0.5``, ``"30000/1001"``. Raises ValueError."""
    text = str(value).strip()
    if isinstance(value, bool) or len(text) > _MAX_TEXT or not _PLAIN.fullmatch(text):
        raise ValueError(f"{text[:_MAX_TEXT]!r} is not a number such as 2, 0.5 or 30000/1001")
    numerator, _, denominator = text.partition("/")
    if denominator and not Fraction(denominator):
        raise ValueError(f"{text!r} divides by zero")
    return _writable(Fraction(numerator) / Fraction(denominator or 1))


def parse_time(value: Any) -> Fraction:
    """Seconds, exactly, from ``90``, ``"1.5"``, ``"2s"``, ``"1m30s"``, ``"250ms"``, ``"1:30"`` or ``"01:02:03.5"``.

    Raises ValueError.
    """
    text = str(value).strip().lower()
    if not isinstance(value, bool) and len(text) <= _MAX_TEXT:
        if _PLAIN.fullmatch(text):
            return parse_number(text)
        if _UNIT_TIME.fullmatch(text):
            parts = re.findall(r"(\d+(?:\.\d+)?)(ms|min|s|m|h)", text)
            return _writable(sum((Fraction(number) * _UNITS[unit] for number, unit in parts), Fraction()))
        if clock := _CLOCK_TIME.fullmatch(text):
            hours, minutes, seconds = clock.groups()
            return _writable(Fraction(hours or 0) * 3600 + Fraction(minutes) * 60 + Fraction(seconds))
    raise ValueError(f"{text[:_MAX_TEXT]!r} is not a time such as 90, 2s, 1m30s or 01:02:03.5")


def _writable(number: Fraction) -> Fraction:
    """Options are stored as text and read again, so that must not be too long either."""
    if len(str(number)) > _MAX_TEXT:
        raise ValueError("has too many digits")
    return number


def _positive(number: Fraction) -> Fraction:
    if number <= 0:
        raise ValueError("must be greater than zero")
    return number


_as_text = PlainSerializer(str, return_type=str)
Rate = Annotated[
    Fraction,
    BeforeValidator(
        lambda value: _positive(parse_number(value)),
        json_schema_input_type=_Above0 | Annotated[str, Field(examples=["1", "0.5", "30000/1001"])],
    ),
    _as_text,
]
Interval = Annotated[
    Fraction,
    BeforeValidator(
        lambda value: _positive(parse_time(value)),
        json_schema_input_type=_Above0 | Annotated[str, Field(examples=["2s", "1m30s"])],
    ),
    _as_text,
]
Time = Annotated[
    Fraction,
    BeforeValidator(
        parse_time, json_schema_input_type=_From0 | Annotated[str, Field(examples=["90", "1m30s", "01:02:03.5"])]
    ),
    _as_text,
]


@dataclass(frozen=True)
class Position:
    """A place in the video: seconds from the container's start, or a percentage of the chosen range."""

    value: Fraction
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


def parse_positions(value: Any) -> tuple[Position, ...]:
    """Positions from ``"10,1m30s,50%"`` or a list of such. Raises ValueError."""
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    if not 0 < len(items) <= MAX_POSITIONS:
        raise ValueError(f"give 1 to {MAX_POSITIONS} times")
    return tuple(item if isinstance(item, Position) else _position(item) for item in items)


def _position(value: Any) -> Position:
    text = str(value).strip()
    if not text.endswith("%"):
        return Position(parse_time(value))
    share = parse_number(text[:-1])
    if share > 100:
        raise ValueError(f"{text!r} lies past the end")
    return Position(share, percent=True)


Positions = Annotated[
    tuple[Position, ...],
    BeforeValidator(
        parse_positions,
        json_schema_input_type=Annotated[list[_From0 | str], Field(min_length=1, max_length=MAX_POSITIONS)]
        | _From0
        | Annotated[str, Field(examples=["10,1m30s,50%"])],
    ),
    PlainSerializer(lambda positions: [str(position) for position in positions], return_type=list[str]),
]
