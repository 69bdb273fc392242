"""What to extract: one model for the command line, the API, the job row and the manifest."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fiapx.core.errors import InvalidOptions
from fiapx.core.quantities import Interval, Positions, Rate, Time

SCENE_THRESHOLD: Final = 10.0
SIMILAR_THRESHOLD: Final = 1.0

ImageFormat = Literal["jpg", "png", "webp"]
Engine = Literal["auto", "fast", "ffmpeg"]
Deinterlace = Literal["off", "auto", "on"]
Hdr = Literal["tonemap", "keep"]


def _threshold(default: float) -> BeforeValidator:
    """A threshold may be switched on by ``true``, with its default."""
    words: dict[Any, float | None] = {True: default, "true": default, False: None, "false": None}
    return BeforeValidator(
        lambda value: words.get(value, value) if isinstance(value, bool | str) else value,
        json_schema_input_type=Annotated[float, Field(gt=0, le=100)] | bool | None,
    )


class ExtractOptions(BaseModel):
    """Which frames of a video to extract, and how to encode them. The default is one JPEG a second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fps: Rate | None = Field(None, description="Frames a second; fractions such as 1/2 or 30000/1001 are exact.")
    every: Interval | None = Field(None, description="Time between frames, instead of fps.")
    step: int | None = Field(None, ge=1, description="Every Nth frame, counted from the first of the range.")
    count: int | None = Field(None, ge=1, description="So many frames, evenly spread over the range.")
    at: Positions | None = Field(None, description="The frames shown at these times or percentages of the range.")
    keyframes: bool = Field(False, description="The frames at which decoding can start.")
    scenes: Annotated[float | None, _threshold(SCENE_THRESHOLD)] = Field(
        None, gt=0, le=100, description="The first frame of each scene; true, or a threshold from 0 to 100 (10)."
    )
    start: Time | None = Field(None, description="First wanted time, counted from the container's start.")
    end: Time | None = Field(None, description="Wanted times end before this one.")
    max_frames: int | None = Field(None, ge=1, description="Of more frames than these, so many evenly spread ones.")
    drop_black: bool = Field(False, description="Leave out black frames.")
    drop_blurred: bool = Field(False, description="Leave out blurred frames.")
    drop_similar: Annotated[float | None, _threshold(SIMILAR_THRESHOLD)] = Field(
        None, gt=0, le=100, description="Leave out frames that differ by less from the last one kept; percent (1)."
    )
    width: int | None = Field(None, ge=16, le=16384, description="Fit into this many pixels across.")
    height: int | None = Field(None, ge=16, le=16384, description="Fit into this many pixels down.")
    upscale: bool = Field(False, description="Let width and height make pictures larger too.")
    format: ImageFormat = "jpg"
    quality: int = Field(90, ge=1, le=100, description="JPEG and WebP quality.")
    deinterlace: Deinterlace = Field("off", description="auto mends the frames that are marked as interlaced.")
    hdr: Hdr = Field("tonemap", description="keep gives 16-bit PNGs of PQ and HLG video.")
    sheet: bool = Field(False, description="Add contact sheets, and WebVTT that points into them.")
    engine: Engine = Field("auto", description="fast decodes in-process, ffmpeg runs FFmpeg's CLI; same pixels.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ways = ("fps", "every", "step", "count", "at", "keyframes", "scenes")
        if len(given := [way for way in ways if getattr(self, way)]) > 1:
            raise ValueError(f"{' and '.join(given)} are different ways to choose: give one")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError("end must lie after start")
        if self.upscale and self.width is None and self.height is None:
            raise ValueError("upscale needs width or height")
        if self.hdr == "keep" and self.format != "png":
            raise ValueError("hdr keep needs format png")
        return self

    @property
    def rate(self) -> Fraction:
        """Frames a second, exactly."""
        if self.every is not None:
            return 1 / self.every
        return self.fps if self.fps is not None else Fraction(1)

    @property
    def cleans(self) -> bool:
        """Whether frames may be dropped for what they show."""
        return self.drop_black or self.drop_blurred or self.drop_similar is not None


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
