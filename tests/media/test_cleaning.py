"""Black, blurred and similar frames are left out where they are known to be, in both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fiapx.core.errors import NoFrames
from fiapx.core.options import extract_options
from fiapx.media.cleaning import BLACK, BLURRED, Cleaning, Verdict
from fiapx.media.draw import look_at
from fiapx.media.likeness import difference, scene_starts
from fiapx.media.model import THUMBNAIL, Look
from tests.media.clips import BITS, BLOCK, X264, Clip
from tests.media.extracting import Extracted, run
from tests.media.sources import numbers

both_engines = pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
SQUARE = 40
BLACK_FRAMES, BLURRED_FRAMES, STILL_FRAMES = range(10, 15), range(30, 40), range(50, 60)


def _changing(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Squares of noise, other ones in each frame but in those that are still; the number above; and black frames."""
    if number in BLACK_FRAMES:
        return np.full((height, width), 16, np.uint8)
    number = STILL_FRAMES[0] if number in STILL_FRAMES else number
    noise = np.random.default_rng(number).integers(40, 215, (height // SQUARE, width // SQUARE), np.uint8)
    picture = noise.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)
    for bit in range(BITS):
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> (BITS - 1 - bit) & 1 else 20
    return picture


CLIP = Clip(
    "cleaning.mp4",
    (*X264, "-bf", "3", "-g", "20", "-crf", "12"),
    size=(320, 240),
    filters=f"gblur=sigma=8:enable='between(n,{BLURRED_FRAMES[0]},{BLURRED_FRAMES[-1]})'",
    draw=_changing,
)


def _dropped(extracted: Extracted) -> list[tuple[int, str]]:
    """The number and the reason of each frame that was left out."""
    return [(round(row["shown_at"] * 25), row["reason"]) for row in extracted.manifest()["dropped"]]


@both_engines
@pytest.mark.parametrize(
    ("reason", "where"),
    [("black", BLACK_FRAMES), ("blurred", BLURRED_FRAMES), ("similar", STILL_FRAMES[1:])],
)
def test_frames_are_left_out_where_they_are_known_to_be(reason: str, where: range, engine: str, clips: Path) -> None:
    options: dict[str, Any] = {f"drop_{reason}": True}
    extracted = run(CLIP.make(clips), engine=engine, step=1, **options)
    flat = BLACK_FRAMES[1:] if reason == "similar" else BLACK_FRAMES if reason == "blurred" else ()
    assert _dropped(extracted) == [(number, reason) for number in sorted({*flat, *where})]
    for row in extracted.manifest()["dropped"]:
        low, high = {"black": (BLACK, 1), "blurred": (0, BLURRED), "similar": (0, 1.0)}[reason]
        assert low <= row["measure"] <= high
        assert row["time"] == row["shown_at"]


@both_engines
def test_what_is_kept_is_numbered_without_gaps(engine: str, clips: Path) -> None:
    extracted = run(CLIP.make(clips), engine=engine, step=1, drop_black=True, drop_blurred=True, drop_similar=True)
    left_out = [*BLACK_FRAMES, *BLURRED_FRAMES, *STILL_FRAMES[1:]]
    kept = [number for number in range(75) if number not in left_out]
    assert [number for number, _ in _dropped(extracted)] == left_out
    assert numbers(extracted) == kept
    rows = extracted.manifest()["frames"]
    assert [row["index"] for row in rows] == list(range(1, len(kept) + 1))
    assert [row["file"].split("_")[1] for row in rows] == [f"{row['index']:06d}" for row in rows]
    assert [row["shown_at"] for row in rows] == [number / 25 for number in kept]
    assert extracted.result.frames == len(kept)
    assert extracted.result.warnings == ()


def test_both_engines_measure_the_same(clips: Path) -> None:
    fast, reference = (
        run(CLIP.make(clips), engine=engine, fps=10, drop_black=True, drop_blurred=True, drop_similar=5).manifest()
        for engine in ("fast", "ffmpeg")
    )
    assert fast["dropped"] == reference["dropped"] != []
    assert [row["sha256"] for row in fast["frames"]] == [row["sha256"] for row in reference["frames"]]


@pytest.mark.parametrize("format_", ["png", "webp"])
def test_every_format_is_judged_alike(format_: str, clips: Path) -> None:
    path, options = CLIP.make(clips), extract_options(step=5, drop_black=True, drop_blurred=True)
    chosen = options.model_dump(exclude_defaults=True)
    assert _dropped(run(path, format=format_, **chosen)) == _dropped(run(path, **chosen)) != []


def test_nothing_is_left_out_unless_asked_for(clips: Path) -> None:
    extracted = run(CLIP.make(clips), step=1)
    assert (len(extracted.images()), extracted.manifest()["dropped"]) == (75, [])


def test_a_frame_that_is_shown_for_long_is_kept_once(clips: Path) -> None:
    path = Clip("slow.mp4", X264, frames=3, rate="1").make(clips)
    assert numbers(run(path, fps=4)) == [0] * 4 + [1] * 4 + [2] * 4
    assert numbers(run(path, fps=4, drop_similar=0.01)) == [0, 1, 2]


@both_engines
def test_where_all_are_left_out_that_is_said(engine: str, clips: Path) -> None:
    with pytest.raises(NoFrames, match=r"^All 5 frames were left out for what they show\.$"):
        run(CLIP.make(clips), engine=engine, step=1, start="0.4", end="0.6", drop_black=True)


def _look(dark: float = 0.1, sharpness: float = 0.1, thumbnail: bytes = bytes(64 * 36)) -> Look:
    return Look(dark, sharpness, thumbnail)


def test_each_is_compared_with_the_last_one_that_was_kept() -> None:
    cleaning = Cleaning(extract_options(drop_similar=2))
    levels = [0, 3, 6, 9, 7, 4, 30]
    verdicts = [cleaning.verdict(_look(thumbnail=bytes([level]) * 64 * 36)) for level in levels]
    kept = [level for level, verdict in zip(levels, verdicts, strict=True) if verdict is None]
    assert kept == [0, 6, 30]
    assert verdicts[1] == Verdict("similar", round(3 * 100 / 255, 4))


def test_thresholds_are_where_they_are_said_to_be() -> None:
    cleaning = Cleaning(extract_options(drop_black=True, drop_blurred=True))
    assert cleaning.verdict(_look(dark=BLACK)) == Verdict("black", BLACK)
    assert cleaning.verdict(_look(dark=BLACK - 0.001)) is None
    assert cleaning.verdict(_look(sharpness=BLURRED)) is None
    assert cleaning.verdict(_look(sharpness=0.009)) == Verdict("blurred", 0.009)


def test_measures_of_a_picture() -> None:
    luma = np.full((90, 160), 200, np.uint8)
    luma[:45] = 31
    assert look_at(luma).dark == 0.5
    thumbnail = np.frombuffer(look_at(luma).thumbnail, np.uint8).reshape(THUMBNAIL[::-1])
    assert set(thumbnail[:18].ravel()) == {31}
    assert set(thumbnail[18:].ravel()) == {200}
    noise = np.random.default_rng(1).integers(0, 255, (90, 160), np.uint8)
    assert look_at(noise).sharpness > 1
    assert look_at(luma // 4 + 100).sharpness == pytest.approx(
        look_at(luma).sharpness, rel=0.2
    )  # whatever the contrast


@pytest.mark.parametrize("size", [(1, 1), (2, 5000), (5000, 2), (3, 3), (36, 64)])
def test_a_picture_of_any_shape_can_be_measured(size: tuple[int, int]) -> None:
    look = look_at(np.full(size, 128, np.uint8))
    assert (look.dark, len(look.thumbnail)) == (0, 64 * 36)
    assert set(look.thumbnail) == {128}


def test_a_difference_is_in_percent_of_the_whole_range() -> None:
    assert difference(bytes(100), b"\xff" * 100) == 100
    assert difference(b"\x33" * 100, bytes(100)) == 20


def test_lasting_motion_is_no_cut() -> None:
    levels = [0, 40, 80, 120, 160, 200, 120, 121, 122]
    thumbnails = [(number, bytes([level]) * 100) for number, level in enumerate(levels)]
    assert list(scene_starts(thumbnails, 10)) == [0, 1, 6]
    assert list(scene_starts([], 10)) == []
