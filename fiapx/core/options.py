"""What to extract: one model for the command line, the API, the job row and the manifest."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from fiapx.core.errors import InvalidOptions

_UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "min": Fraction(60), "h": Fraction(3600)}
_UNIT_TIME = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|min|s|m|h))+")
_CLOCK_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_PLAIN = re.compile(r"\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?")
_MAX_TEXT = 64


def parse_number(value: Any) -> Fraction:
    """An exact, non-negative number from ``2``, ``0.5``, ``"30000/1001"``. Raises ValueError."""
    text = str(value).strip()
    if isinstance(value, bool) or len(text) > _MAX_TEXT or not _PLAIN.fullmatch(text):
        raise ValueError(f"{text[:_MAX_TEXT]!r} is not a number such as 2, 0.5 or 30000/1001")
    numerator, _, denominator = text.partition("/")
    if denominator and not Fraction(denominator):
        raise ValueError(f"{text!r} divides by zero")
    return Fraction(numerator) / Fraction(denominator or 1)


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
            return sum((Fraction(number) * _UNITS[unit] for number, unit in parts), Fraction())
        if clock := _CLOCK_TIME.fullmatch(text):
            hours, minutes, seconds = clock.groups()
            return Fraction(hours or 0) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    raise ValueError(f"{text[:_MAX_TEXT]!r} is not a time such as 90, 2s, 1m30s or 01:02:03.5")


def _positive(number: Fraction) -> Fraction:
    if number <= 0:
        raise ValueError("must be greater than zero")
    return number


_as_text = PlainSerializer(str, return_type=str)
Rate = Annotated[
    Fraction,
    BeforeValidator(lambda value: _positive(parse_number(value))),
    _as_text,
    WithJsonSchema({"type": "string", "examples": ["1", "0.5", "30000/1001"]}),
]
Interval = Annotated[
    Fraction,
    BeforeValidator(lambda value: _positive(parse_time(value))),
    _as_text,
    WithJsonSchema({"type": "string", "examples": ["2s", "1m30s"]}),
]
Time = Annotated[
    Fraction,
    BeforeValidator(parse_time),
    _as_text,
    WithJsonSchema({"type": "string", "examples": ["90", "1m30s", "01:02:03.5"]}),
]

ImageFormat = Literal["jpg", "png"]
Engine = Literal["auto", "fast", "ffmpeg"]


class ExtractOptions(BaseModel):
    """Which frames of a video to extract, and how to encode them. The default is one JPEG a second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fps: Rate | None = Field(None, description="Frames a second; fractions such as 1/2 or 30000/1001 are exact.")
    every: Interval | None = Field(None, description="Time between frames, instead of fps.")
    start: Time | None = Field(None, description="First wanted time, counted from the container's start.")
    end: Time | None = Field(None, description="Wanted times end before this one.")
    width: int | None = Field(None, ge=16, le=16384, description="Scale down to this many pixels; never up.")
    format: ImageFormat = "jpg"
    quality: int = Field(90, ge=1, le=100, description="JPEG quality.")
    engine: Engine = Field("auto", description="fast decodes in-process, ffmpeg runs FFmpeg's CLI; same pixels.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fps is not None and self.every is not None:
            raise ValueError("give fps or every, not both")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError("end must lie after start")
        return self

    @property
    def rate(self) -> Fraction:
        """Frames a second, exactly."""
        if self.every is not None:
            return 1 / self.every
        return self.fps if self.fps is not None else Fraction(1)


def extract_options(**values: Any) -> ExtractOptions:
    """Build options from user input. Raises InvalidOptions with one clear line instead of pydantic's report."""
    try:
        return ExtractOptions.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        raise InvalidOptions(explain(error)) from None


def explain(error: ValidationError) -> str:
    """One line a person can read from pydantic's report: ``width: Input should be …; fps: …``."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        what = item["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {what}" if where else what)
    return "; ".join(lines)
