"""Side by side on one machine: fiapx, and what people do by hand (FFmpeg to files, then zip).

    python benchmarks/engine.py [--seconds 60] [--rounds 3]

Makes a 1080p30 H.264 video, runs all ways in turn, several times, and prints medians with ratios to the first way of
each group. Wall time, and CPU time of all processes, in seconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from fiapx.media.ffmpeg import find_ffmpeg

Way = Callable[[Path, Path], None]
FFMPEG = str(find_ffmpeg().path)


def make_video(folder: Path, seconds: int) -> Path:
    """Moving test pictures; a keyframe at least every 250 frames, as x264 does by itself."""
    path = folder / "input.mp4"
    source = f"testsrc2=size=1920x1080:rate=30:duration={seconds}"
    quiet(
        FFMPEG, "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", str(path)
    )
    return path


def quiet(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def by_hand(rate: str, extension: str, compression: int) -> Way:
    """Frames as files, then a ZIP of them: deflate for PNG as most systems do, stored for JPEG."""

    def run(video: Path, folder: Path) -> None:
        quality = ("-q:v", "2") if extension == "jpg" else ()
        quiet(FFMPEG, "-y", "-i", str(video), "-vf", f"fps={rate}", *quality, str(folder / f"frame_%04d.{extension}"))
        with zipfile.ZipFile(folder / "out.zip", "w", compression) as archive:
            for frame in sorted(folder.glob(f"frame_*.{extension}")):
                archive.write(frame, frame.name)

    return run


def decode_only(video: Path, _folder: Path) -> None:
    quiet(FFMPEG, "-i", str(video), "-f", "null", "-")


def fiapx(rate: str, extension: str, engine: str) -> Way:
    def run(video: Path, folder: Path) -> None:
        command = Path(sys.executable).parent / "fiapx"
        options = ("--fps", rate, "--format", extension, "--engine", engine)
        quiet(str(command), "extract", str(video), *options, "-o", str(folder / "out.zip"))

    return run


GROUPS: dict[str, dict[str, Way]] = {
    "PNG, 1 a second": {
        "ffmpeg + zip": by_hand("1", "png", zipfile.ZIP_DEFLATED),
        "fiapx fast": fiapx("1", "png", "fast"),
        "fiapx ffmpeg": fiapx("1", "png", "ffmpeg"),
    },
    "JPEG, 1 a second": {
        "ffmpeg + zip": by_hand("1", "jpg", zipfile.ZIP_STORED),
        "fiapx fast": fiapx("1", "jpg", "fast"),
        "decode only": decode_only,
    },
    "JPEG, 1 in 10 s": {
        "ffmpeg + zip": by_hand("1/10", "jpg", zipfile.ZIP_STORED),
        "fiapx fast": fiapx("1/10", "jpg", "fast"),
    },
}


def measure(way: Way, video: Path) -> tuple[float, float]:
    folder = Path(tempfile.mkdtemp(dir=video.parent))
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    way(video, folder)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(folder)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="length of the video")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is run, all ways in turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = make_video(Path(folder), arguments.seconds)
        size = video.stat().st_size >> 20
        print(f"{arguments.seconds} s of 1080p30 H.264, {size} MiB, {os.cpu_count()} cores, {FFMPEG}\n")
        print(f"{'':<18}{'way':<16}{'wall s':>8}{'CPU s':>8}{'wall ratio':>12}")
        for group, ways in GROUPS.items():
            rounds = [{name: measure(way, video) for name, way in ways.items()} for _ in range(arguments.rounds)]
            base = 0.0
            for name in ways:
                wall = statistics.median(each[name][0] for each in rounds)
                cpu = statistics.median(each[name][1] for each in rounds)
                base = base or wall
                print(f"{group:<18}{name:<16}{wall:>8.2f}{cpu:>8.2f}{base / wall:>11.2f}x")


if __name__ == "__main__":
    main()
