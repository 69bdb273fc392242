"""Side by side on one machine: fiapx, and what people do by hand (FFmpeg or OpenCV to files, then zip).

    python -m benchmarks.engine [--only h264] [--only JPEG] [--all] [--content bunny] [--seconds 600] [--rounds 5]
        [--folder .cache/bench]

Makes its inputs once, runs all ways of a group in turn, several times, and prints medians: seconds of wall time, of CPU
time, and MB of memory, of all processes together; how many times as long each FFmpeg with `zip` takes, and how many
times the CPU time of decoding alone a way takes. There may be two of FFmpeg, that of the machine and that of
imageio-ffmpeg's wheel: what their PNG encoders do by default has changed. All of this depends on what the videos show.
Needs `zip`; OpenCV takes part where opencv-python-headless is installed. `--rounds 0` makes the inputs and stops.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.inputs import CONTENTS, FFMPEG, FFMPEGS, INPUTS
from benchmarks.measure import Cost, cost

Commands = list[list[str]]
Way = Callable[[str, str, str], Commands]
"""The commands that make out.zip from a video: its path, images a second, and `png` or `jpg`."""

_OPENCV = """
import cv2, fractions, sys, zipfile
video, rate, extension = sys.argv[1:]
capture, wanted = cv2.VideoCapture(video), 0
step = capture.get(cv2.CAP_PROP_FPS) / float(fractions.Fraction(rate))
with zipfile.ZipFile("out.zip", "w", zipfile.ZIP_DEFLATED if extension == "png" else zipfile.ZIP_STORED) as archive:
    number = 0
    while capture.grab():
        if number >= wanted * step:
            wanted += 1
            name = f"frame_{wanted:04d}.{extension}"
            cv2.imwrite(name, capture.retrieve()[1], [cv2.IMWRITE_JPEG_QUALITY, 90])
            archive.write(name)
        number += 1
"""


def by_hand(ffmpeg: str) -> Way:
    """Frames as files, then a ZIP of them: deflated for PNG as most systems do, stored for JPEG."""

    def commands(video: str, rate: str, extension: str) -> Commands:
        quality, level = (["-q:v", "2"], "-0") if extension == "jpg" else ([], "-6")
        decode = [ffmpeg, "-nostdin", "-i", video, "-vf", f"fps={rate}", *quality, f"frame_%04d.{extension}"]
        return [decode, ["zip", "-q", "-r", level, "out.zip", "."]]

    return commands


def decode_only(video: str, _rate: str, _extension: str) -> Commands:
    return [[FFMPEG, "-nostdin", "-i", video, "-an", "-f", "null", "-"]]


def opencv(video: str, rate: str, extension: str) -> Commands:
    return [[sys.executable, "-c", _OPENCV, video, rate, extension]]


def fiapx(engine: str, processes: int | None = None) -> Way:
    def commands(video: str, rate: str, extension: str) -> Commands:
        jobs = [] if processes is None else ["--jobs", str(processes)]
        options = ["--fps", rate, "--format", extension, "--engine", engine, *jobs, "-o", "out.zip"]
        return [[_fiapx(), "extract", video, *options]]

    return commands


class Group(NamedTuple):
    """One kind of images, and by default the inputs to measure it on; those in `full` with OpenCV and fiapx's reference
    engine as well."""

    name: str
    rate: str
    extension: str
    inputs: tuple[str, ...]
    full: tuple[str, ...] = ()


_BY_HAND, _DECODE, _ONE, _TWO = "ffmpeg + zip,", "decode only", "fiapx fast, 1 process", "fiapx fast, 2 processes"
_ALL = tuple(video.name for video in INPUTS)
_USUAL = tuple(name for name in _ALL if name != "h264-4k")
_FEW = ("h264", "clip")
GROUPS = (
    Group("PNG, 1 a second", "1", "png", _FEW, _FEW),
    Group("JPEG, 1 a second", "1", "jpg", _ALL, _FEW),
    Group("JPEG, 1 in 10 s", "1/10", "jpg", ("h264",)),
)


def ways(*, full: bool) -> Iterator[tuple[str, Way]]:
    for (major, minor), found in FFMPEGS.items():
        yield f"{_BY_HAND} {major}.{minor}", by_hand(str(found.path))
    yield _DECODE, decode_only
    if full and importlib.util.find_spec("cv2"):
        yield "OpenCV + zipfile", opencv
    if _has_jobs():
        yield _ONE, fiapx("fast", 1)
        yield _TWO, fiapx("fast", 2)
    else:
        yield "fiapx fast", fiapx("fast")
    if full:
        yield "fiapx ffmpeg", fiapx("ffmpeg")


@cache
def _fiapx() -> str:
    return str(Path(sys.executable).parent / "fiapx")


@cache
def _has_jobs() -> bool:
    text = subprocess.run([_fiapx(), "extract", "--help"], capture_output=True, text=True, check=True).stdout
    return "--jobs" in text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="inputs of this name, or groups whose name has it; can be repeated")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="every input with every way and kind of images: takes hours")
    parser.add_argument("--content", choices=CONTENTS, default="trailer", help="what the videos show")
    parser.add_argument("--seconds", type=int, default=600, help="length of the videos")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is run, all ways in turn")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"), help="where the videos are kept")
    arguments = parser.parse_args()
    if not shutil.which("zip"):
        parser.error("zip is needed")
    if not importlib.util.find_spec("cv2"):
        print("without OpenCV: opencv-python-headless is not installed", file=sys.stderr)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    content = CONTENTS[arguments.content].fetched(folder)
    print(f"{len(os.sched_getaffinity(0))} cores, {FFMPEG}, {content.name}, medians of {arguments.rounds}")
    inputs = [name for name in arguments.only if name in _ALL] or (_ALL if arguments.all else _USUAL)
    groups = [name for name in arguments.only if name not in _ALL] or [""]
    for video in INPUTS:
        for group in GROUPS:
            measured = _ALL if arguments.all else group.inputs
            if video.name in inputs and video.name in measured and any(name in group.name for name in groups):
                path = video.make(folder, arguments.seconds, content)
                print(f"\n{path.name} ({path.stat().st_size >> 20} MiB), {group.name}")
                if arguments.rounds:
                    compare(group, path, arguments.rounds, full=arguments.all or video.name in group.full)


def compare(group: Group, video: Path, rounds: int, *, full: bool) -> None:
    """Run all ways in turn, several times, and print a line for each."""
    found: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for name, way in ways(full=full):
            commands = way(str(video), group.rate, group.extension)
            found.setdefault(name, []).append(cost(commands, video.parent))
    medians = {name: Cost(*map(statistics.median, zip(*costs, strict=True))) for name, costs in found.items()}
    references = {name: median.wall for name, median in medians.items() if _BY_HAND in name}
    titles = "".join(f"{'x ' + name.removeprefix(_BY_HAND).strip():>8}" for name in references)
    print(f"  {'':<24}{'wall s':>9}{'CPU s':>9}{'MB':>7}{titles}{'CPU/decode':>12}")
    for name, (wall, cpu, memory) in medians.items():
        ratios = "".join(f"{reference / wall:>7.2f}x" for reference in references.values())
        decoding = f"{cpu / medians[_DECODE].cpu:>11.2f}x"
        print(f"  {name:<24}{wall:>9.2f}{cpu:>9.2f}{memory:>7.0f}{ratios}{decoding}")
    if _TWO in medians:
        print(f"  2 processes are {medians[_ONE].wall / medians[_TWO].wall:.2f} times as fast as 1", flush=True)


if __name__ == "__main__":
    main()
