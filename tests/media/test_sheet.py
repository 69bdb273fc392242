"""Contact sheets show the right frame in each place, and their WebVTT says which is where."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.media.clips import BY_NAME, X264, Clip, read_number
from tests.media.extracting import Extracted, run
from tests.media.sources import numbers

both_engines = pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
_CUE = re.compile(r"(\S+) --> (\S+)\n(sheet_\d{3}\.jpg)#xywh=(\d+),(\d+),(\d+),(\d+)\n")
LONG = Clip("120-frames.mp4", (*X264, "-g", "30"), frames=120)
PORTRAIT = Clip("portrait.mp4", X264, size=(180, 320), frames=25)


def _entries(extracted: Extracted) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(extracted.data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _cues(extracted: Extracted) -> list[tuple[float, float, bytes]]:
    """(begin, end, tile as PNG) of each cue. The file is nothing but its header and cues."""
    entries = _entries(extracted)
    head, *cues = entries["sheet.vtt"].decode().split("\n\n")
    assert head == "WEBVTT"
    found = []
    for cue in cues:
        match = _CUE.fullmatch(cue.removesuffix("\n") + "\n")
        assert match is not None, cue
        begin, end, sheet, *place = match.groups()
        left, top, width, height = map(int, place)
        picture = Image.open(io.BytesIO(entries[sheet]))
        assert left + width <= picture.width
        assert top + height <= picture.height
        tile = io.BytesIO()
        picture.crop((left, top, left + width, top + height)).save(tile, "PNG")
        found.append((_seconds(begin), _seconds(end), tile.getvalue()))
    return found


def _seconds(clock: str) -> float:
    assert re.fullmatch(r"\d{2,}:[0-5]\d:[0-5]\d\.\d{3}", clock)
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@both_engines
def test_each_tile_shows_its_frame(engine: str, clips: Path) -> None:
    extracted = run(BY_NAME["h264-bframes.mp4"].make(clips), engine=engine, fps=5, sheet=True)
    cues = _cues(extracted)
    assert [read_number(tile, scale=192 / 160) for *_, tile in cues] == numbers(extracted) == list(range(0, 75, 5))
    assert [begin for begin, *_ in cues] == [row["time"] for row in extracted.manifest()["frames"]]
    assert [end for _, end, _ in cues] == [*[begin for begin, *_ in cues[1:]], 3.0]
    (sheet,) = extracted.manifest()["sheets"]
    assert {key: sheet[key] for key in ("file", "frames", "columns", "width", "height")} == {
        "file": "sheet_001.jpg", "frames": 15, "columns": 10, "width": 160, "height": 107,
    }  # fmt: skip
    assert Image.open(io.BytesIO(_entries(extracted)["sheet_001.jpg"])).size == (1600, 214)


@both_engines
def test_more_than_a_hundred_frames_make_a_second_sheet(engine: str, clips: Path) -> None:
    extracted = run(LONG.make(clips), engine=engine, step=1, sheet=True)
    assert [read_number(tile, scale=192 / 160) for *_, tile in _cues(extracted)] == list(range(120))
    sheets = extracted.manifest()["sheets"]
    assert [(sheet["file"], sheet["frames"]) for sheet in sheets] == [("sheet_001.jpg", 100), ("sheet_002.jpg", 20)]
    for sheet in sheets:
        image = extracted.data[sheet["offset"] : sheet["offset"] + sheet["bytes"]]
        assert hashlib.sha256(image).hexdigest() == sheet["sha256"]
        rows = -(-sheet["frames"] // sheet["columns"])
        assert Image.open(io.BytesIO(image)).size == (10 * sheet["width"], rows * sheet["height"])
    names = list(_entries(extracted))
    assert names.index("sheet_001.jpg") == 100
    assert names[-4:] == ["sheet_002.jpg", "sheet.vtt", "manifest.json", "manifest.csv"]


def test_a_hundred_frames_fill_one_sheet(clips: Path) -> None:
    extracted = run(LONG.make(clips), step=1, max_frames=100, sheet=True)
    assert [sheet["frames"] for sheet in extracted.manifest()["sheets"]] == [100]
    assert len(_cues(extracted)) == 100


def test_both_engines_make_the_same_sheets(clips: Path) -> None:
    path = LONG.make(clips)
    fast, reference = (_entries(run(path, engine=engine, count=13, sheet=True)) for engine in ("fast", "ffmpeg"))
    assert fast["sheet_001.jpg"] == reference["sheet_001.jpg"]
    assert fast["sheet.vtt"] == reference["sheet.vtt"]


@both_engines
def test_portrait(engine: str, clips: Path) -> None:
    extracted = run(PORTRAIT.make(clips), engine=engine, step=3, sheet=True)
    assert [read_number(tile, scale=2) for *_, tile in _cues(extracted)] == list(range(0, 25, 3))
    (sheet,) = extracted.manifest()["sheets"]
    assert (sheet["columns"], sheet["width"], sheet["height"]) == (9, 90, 160)


def test_small_pictures_are_not_made_larger(clips: Path) -> None:
    extracted = run(LONG.make(clips), count=1, width=96, sheet=True)
    (sheet,) = extracted.manifest()["sheets"]
    assert (sheet["columns"], sheet["width"], sheet["height"]) == (1, 96, 64)
    assert [read_number(tile, scale=2) for *_, tile in _cues(extracted)] == [60]


def test_frames_that_were_left_out_are_on_no_sheet(clips: Path) -> None:
    path = Clip("slow.mp4", X264, frames=3, rate="1").make(clips)
    extracted = run(path, fps=4, drop_similar=0.01, sheet=True)
    cues = _cues(extracted)
    assert [read_number(tile, scale=192 / 160) for *_, tile in cues] == [0, 1, 2]
    assert [(begin, end) for begin, end, _ in cues] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("format_", ["png", "webp"])
def test_sheets_are_jpegs_whatever_the_frames_are(format_: str, clips: Path) -> None:
    extracted = run(LONG.make(clips), count=3, format=format_, sheet=True)
    assert Image.open(io.BytesIO(_entries(extracted)["sheet_001.jpg"])).format == "JPEG"
    assert [read_number(tile, scale=192 / 160) for *_, tile in _cues(extracted)] == numbers(extracted) == [20, 60, 100]


def test_without_being_asked_there_is_none(clips: Path) -> None:
    extracted = run(LONG.make(clips), count=3)
    assert not [name for name in _entries(extracted) if name.startswith("sheet")]
    assert extracted.manifest()["sheets"] == []
