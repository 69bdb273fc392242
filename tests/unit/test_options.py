"""The options of an extraction, and the numbers and times that people write."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiapx.core.errors import InvalidOptions
from fiapx.core.options import ExtractOptions, extract_options
from fiapx.core.quantities import MAX_POSITIONS, Position, parse_number, parse_positions, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90), (1.5, Fraction(3, 2)), ("90", 90), (" 1.5 ", Fraction(3, 2)), ("2s", 2), ("1m30s", 90), ("1M30S", 90),
        ("250ms", Fraction(1, 4)), ("2min", 120), ("1h0.5s", Fraction(7201, 2)), ("1:30", 90),
        ("01:02:03.5", Fraction(7447, 2)), ("1/3", Fraction(1, 3)), ("0", 0),
    ],
    ids=str,
)  # fmt: skip
def test_times(text: object, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1:2:3:4", "1m30", "s", "1e3", True, "1/0", "9" * 65, "nan", "inf", None]
)
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a time|divides by zero"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0." + "1" * 40, "0." + "1" * 40 + "h", "1:01." + "1" * 40])
def test_what_could_not_be_read_again_is_refused(text: str) -> None:
    with pytest.raises(InvalidOptions, match="start: has too many digits"):
        extract_options(start=text)


@given(st.fractions(0, 10**6, max_denominator=10**6))
def test_a_number_is_read_exactly(number: Fraction) -> None:
    assert parse_number(str(number)) == number


@pytest.mark.parametrize(
    "given_", ["10,1m30s,50%", ["10", "1m30s", "50%"], [10, "1:30", Position(Fraction(50), percent=True)]]
)
def test_positions(given_: object) -> None:
    found = parse_positions(given_)
    assert found == (Position(Fraction(10)), Position(Fraction(90)), Position(Fraction(50), percent=True))
    assert parse_positions([str(position) for position in found]) == found


@pytest.mark.parametrize(
    "given_", ["", ",", "1,,2", "101%", "-1%", "%", [], ["1,2"], "1," * MAX_POSITIONS + "1", {"at": 1}]
)
def test_what_are_no_positions(given_: object) -> None:
    with pytest.raises(InvalidOptions, match=r"^at: "):
        extract_options(at=given_)


@pytest.mark.parametrize(
    ("value", "scenes"), [(True, 10.0), ("true", 10.0), (25, 25.0), ("7.5", 7.5), (False, None), ("false", None)]
)
def test_a_threshold_may_be_just_switched_on(value: Any, scenes: float | None) -> None:
    assert extract_options(scenes=value).scenes == scenes
    similar = extract_options(drop_similar=value).drop_similar
    assert similar == (1.0 if scenes == 10.0 else scenes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 1, "step": 2}, "fps and step are different ways to choose: give one"),
        ({"scenes": True, "keyframes": True, "count": 1}, "count and keyframes and scenes are different ways"),
        ({"fps": 1, "every": "1s"}, "fps and every are different ways"),
        ({"start": 2, "end": 2}, "end must lie after start"),
        ({"end": 0}, "end must lie after start"),
        ({"upscale": True}, "upscale needs width or height"),
        ({"hdr": "keep"}, "hdr keep needs format png"),
        ({"fps": 0}, "fps: must be greater than zero"),
        ({"step": 0}, "step: "), ({"count": 0}, "count: "), ({"max_frames": 0}, "max_frames: "),
        ({"scenes": 0}, "scenes: "), ({"scenes": 101}, "scenes: "), ({"scenes": "nan"}, "scenes: "),
        ({"drop_similar": "much"}, "drop_similar: "), ({"drop_similar": -1}, "drop_similar: "),
        ({"width": 8}, "width: "), ({"format": "gif"}, "format: "), ({"quality": 101}, "quality: "),
        ({"colour": "red"}, "colour: "),
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        extract_options(**options)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "options",
    [
        {}, {"fps": "30000/1001"}, {"every": "1m30s"}, {"at": "10,50%"}, {"scenes": True, "max_frames": 5},
        {"keyframes": True},
        {"start": "0.1", "end": "1:30", "drop_black": True, "drop_similar": True, "sheet": True},
    ],
    ids=str,
)  # fmt: skip
def test_options_come_back_from_a_job_row_as_they_were(options: dict[str, Any]) -> None:
    chosen = extract_options(**options)
    assert ExtractOptions.model_validate_json(chosen.model_dump_json()) == chosen
    assert ExtractOptions.model_validate(chosen.model_dump(mode="json", exclude_none=True)) == chosen


def test_every_option_says_what_it_is_in_the_schema_or_by_its_values() -> None:
    for name, schema in ExtractOptions.model_json_schema()["properties"].items():
        assert "description" in schema or "enum" in schema, name


def test_one_frame_a_second_unless_told_otherwise() -> None:
    assert extract_options().rate == 1
    assert extract_options(every="2s").rate == Fraction(1, 2)
    assert extract_options(fps="30000/1001").rate == Fraction(30000, 1001)


@pytest.mark.parametrize("name", ["scenes", "drop_similar"])
def test_the_schema_lets_a_threshold_be_switched_on(name: str) -> None:
    asked = ExtractOptions.model_json_schema()["properties"][name]
    told = ExtractOptions.model_json_schema(mode="serialization")["properties"][name]
    assert [kind["type"] for kind in asked["anyOf"]] == ["number", "boolean", "null"]
    assert [kind["type"] for kind in told["anyOf"]] == ["number", "null"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fps", [2, 0.5, "30000/1001"]), ("every", [2, "1m30s"]), ("start", [0, 1.5, "1:30"]), ("end", [90, "90"]),
        ("at", [10, "10,50%", [10, "1m30s", "50%"]]),
    ],
)  # fmt: skip
def test_the_schema_takes_what_is_taken_and_shows_what_is_given(name: str, values: list[Any]) -> None:
    asked, told = (ExtractOptions.model_json_schema(mode=mode) for mode in ("validation", "serialization"))
    for value in values:
        jsonschema.validate({name: value}, asked)
        jsonschema.validate(extract_options(**{name: value}).model_dump(mode="json"), told)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: 2}, told)
    kinds = [kind["type"] for kind in told["properties"][name]["anyOf"]]
    assert kinds == ["array" if name == "at" else "string", "null"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: -1}, asked)
