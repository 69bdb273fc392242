"""What an extraction holds in memory, all processes together, depends on the size of a picture and on nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.clips import X264, ffmpeg

ROOT = Path(__file__).parents[2]
FIAPX = str(Path(sys.executable).parent / "fiapx")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MEASURE = "import sys; from benchmarks.measure import cost; print(cost([sys.argv[2:]], sys.argv[1]).memory)"


def _peak(command: list[str], folder: Path) -> float:
    """MB, by a process that has no other children."""
    measure = [sys.executable, "-c", MEASURE, str(folder), *command]
    return float(subprocess.run(measure, stdout=subprocess.PIPE, check=True, timeout=120, cwd=ROOT).stdout)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("picture", ["jpg", "png"])
def test_a_long_video_takes_no_more_memory_than_a_short_one(picture: str, tmp_path: Path) -> None:
    piece, peaks = tmp_path / "piece.mp4", []
    source = ("-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=10:d=4", "-vf", "noise=alls=12")
    ffmpeg(*source, *X264, "-crf", "30", "-g", "10", str(piece))
    for times in (10, 30):
        command = [FIAPX, "extract", str(_repeated(piece, times)), "--format", picture, "--fps", "2", "--jobs", "2"]
        peaks.append(_peak(command, tmp_path))
    assert 0 < max(peaks) <= 350
    assert peaks[1] <= 1.1 * peaks[0] + 5


@pytest.mark.timeout(240)
def test_an_hour_takes_as_much_memory_as_ten_minutes(tmp_path: Path) -> None:
    """Or nearly so: there is a record of each frame in the manifest, and one in the ZIP's directory."""
    piece, peaks = tmp_path / "piece.mp4", []
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=640x360:r=2:d=60", *X264, "-g", "20", str(piece))
    for minutes in (10, 60):
        video = _repeated(piece, minutes)
        peaks.append(_peak([FIAPX, "extract", str(video), "--every", "2", "--jobs", "2"], tmp_path))
    assert peaks[1] == pytest.approx(peaks[0], rel=0.1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three seconds in 4K with a keyframe every half, whose pictures do not compress well: SDR and HDR."""
    folder = tmp_path_factory.mktemp("4k")
    source = ("-f", "lavfi", "-i", "testsrc2=s=3840x2160:r=8:d=1", "-vf", "noise=alls=12")
    x265 = "log-level=error:keyint=4:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    pq = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "20", "-x265-params", x265, "-pix_fmt", "yuv420p10le")
    found = {}
    for name, encoder in {"sdr": (*X264, "-preset", "ultrafast", "-g", "4"), "hdr": pq}.items():
        ffmpeg(*source, *encoder, str(folder / f"{name}.mp4"))
        found[name] = _repeated(folder / f"{name}.mp4", 3)
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sdr", ("--engine", "fast")),
        ("hdr", ("--engine", "fast", "--sheet", "--drop-similar", "0.01", "--end", "2.25")),
        ("sdr", ("--engine", "ffmpeg", "--end", "1")),
        ("hdr", ("--engine", "ffmpeg", "--sheet", "--drop-similar", "0.01", "--end", "1")),
    ],
    ids=["sdr", "hdr", "sdr-by-ffmpeg", "hdr-by-ffmpeg"],
)
def test_4k_fits_into_700_mb(name: str, options: tuple[str, ...], large: dict[str, Path], tmp_path: Path) -> None:
    """By the fast engine of more than 16 frames, which are work for two decoders."""
    command = [FIAPX, "extract", str(large[name]), "--format", "png", "--hdr", "keep", "--fps", "8", "--jobs", "2"]
    assert 0 < _peak([*command, *options], tmp_path) <= 700


def _repeated(piece: Path, times: int) -> Path:
    """The video so many times over, beside it."""
    video = piece.with_stem(f"{piece.stem}-{times}")
    ffmpeg("-stream_loop", str(times - 1), "-i", str(piece), "-c", "copy", str(video))
    return video
