"""What an extraction holds in memory, all processes together, depends on the size of a picture and on nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.clips import X264, ffmpeg

ROOT = Path(__file__).parents[2]
FIAPX = str(Path(sys.executable).parent / "fiapx")

MEASURE = "import sys; from benchmarks.measure import cost; print(cost([sys.argv[2:]], sys.argv[1]).memory)"


def _peak(command: list[str], folder: Path) -> float:
    """MB, by a process that has no other children."""
    measure = [sys.executable, "-c", MEASURE, str(folder), *command]
    return float(subprocess.run(measure, stdout=subprocess.PIPE, check=True, timeout=120, cwd=ROOT).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("picture", ["jpg", "png"])
def test_a_long_video_takes_no_more_memory_than_a_short_one(picture: str, tmp_path: Path) -> None:
    piece, peaks = tmp_path / "piece.mp4", []
    source = ("-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=10:d=4", "-vf", "noise=alls=12")
    ffmpeg(*source, *X264, "-crf", "30", "-g", "10", str(piece))
    for times in (10, 30):
        video = tmp_path / f"{times}.mp4"
        ffmpeg("-stream_loop", str(times - 1), "-i", str(piece), "-c", "copy", str(video))
        command = [FIAPX, "extract", str(video), "--format", picture, "--fps", "2", "--jobs", "2"]
        peaks.append(_peak(command, tmp_path))
    assert 0 < max(peaks) <= 350
    assert peaks[1] <= 1.1 * peaks[0] + 5
