"""Videos whose right answer is known: each frame carries its number as a row of black and white blocks."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiapx.media.ffmpeg import find_ffmpeg

BITS = 10
BLOCK = 16


@dataclass(frozen=True)
class Clip:
    """How to make a video of `frames` numbered frames. `arguments` are FFmpeg's output options."""

    name: str
    arguments: tuple[str, ...]
    frames: int = 75
    rate: str = "25"
    size: tuple[int, int] = (192, 128)
    filters: str = ""
    before: tuple[str, ...] = field(default=())
    """Options in front of the output, such as a second input."""
    draw: Callable[[int, int, int], NDArray[np.uint8]] | None = None
    """Given a frame's number, width and height: its grey picture, instead of `numbered`."""

    def make(self, folder: Path) -> Path:
        """The file, made once a folder; other processes may ask for it at the same time."""
        path = folder / self.name
        if not path.exists():
            width, height = self.size
            source = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", self.rate, "-i", "pipe:0")
            filters = ("-vf", self.filters) if self.filters else ()
            fresh = folder / f"{os.getpid()}-{self.name}"
            ffmpeg(*source, *self.before, *filters, *self.arguments, str(fresh), data=self._pixels())
            with suppress(FileExistsError):  # encoders may write other bytes each time: the first file stays
                path.hardlink_to(fresh)
            fresh.unlink()
        return path

    def _pixels(self) -> bytes:
        width, height = self.size
        return b"".join((self.draw or numbered)(number, width, height).tobytes() for number in range(self.frames))


def numbered(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A grey picture with a moving texture, and `number` in binary in its upper left, most significant bit first."""
    across, down = np.arange(width) + 3 * number, np.arange(height) + number
    picture = (128 + 60 * np.sin(across / 9)[None, :] * np.cos(down / 7)[:, None]).astype(np.uint8)
    for bit in range(BITS):
        white = number >> (BITS - 1 - bit) & 1
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if white else 20
    return picture


def read_number(image: bytes, *, scale: float = 1.0) -> int:
    """The number in an image file. `scale` is how much smaller than the source it is."""
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("L"))
    block = BLOCK / scale
    values = [pixels[int(block / 2), int((bit + 0.5) * block)] > 127 for bit in range(BITS)]
    return int("".join(str(int(value)) for value in values), 2)


@lru_cache(maxsize=1)
def ffmpeg_binary() -> str:
    return str(find_ffmpeg().path)


def ffmpeg(*arguments: str, data: bytes = b"", binary: str | None = None) -> bytes:
    """Run FFmpeg, or this `binary` of it; its standard output."""
    command = [binary or ffmpeg_binary(), "-hide_banner", "-nostats", "-v", "error", "-y", *arguments]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def witness(path: Path, rate: str, filters: Sequence[str] = ()) -> list[str]:
    """Per-frame MD5 of what FFmpeg itself picks by ``fps=RATE:round=up``, as RGB by the engine's own conversion."""
    chain = ",".join((f"fps={rate}:round=up", *filters, "format=rgb24"))
    decoder = ("-flags", "+bitexact", "-idct", "simple")
    lines = ffmpeg(*decoder, "-i", str(path), "-map", "0:V:0", "-vf", chain, "-f", "framemd5", "pipe:1").decode()
    return [line.rsplit(",", 1)[1].strip() for line in lines.splitlines() if not line.startswith("#")]


def damaged(path: Path, target: Path, *broken: int) -> Path:
    """A copy in which these packets of the video hold zeros."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for ordinal, packet in enumerate(container.demux(video=0)):
            if ordinal in broken and packet.pos is not None:
                data[packet.pos + 4 : packet.pos + packet.size] = bytes(packet.size - 4)
    target.write_bytes(data)
    return target


X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
_VFR = "setpts='(N+floor(N/7)*3)/25/TB'"

CLIPS = [
    Clip("h264-bframes.mp4", (*X264, "-bf", "3", "-g", "30")),
    Clip("h264-open-gop.mkv", (*X264, "-bf", "3", "-g", "20", "-x264-params", "open-gop=1")),
    Clip("h264-10bit.mkv", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-g", "30")),
    Clip("h264-444.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p")),
    Clip("h264-vfr.mp4", (*X264, "-bf", "2", "-g", "20", "-fps_mode", "vfr"), filters=_VFR),
    Clip("h264-interlaced.mp4", (*X264, "-flags", "+ilme+ildct", "-x264-params", "tff=1", "-g", "25")),
    Clip("h264-in-avi.avi", (*X264, "-bf", "2", "-g", "25")),
    Clip("h264-ntsc.mp4", (*X264, "-g", "30"), rate="30000/1001"),
    Clip("h264-odd.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p"), size=(191, 127)),
    Clip("h264-anamorphic.mp4", (*X264,), filters="setsar=4/3"),
    Clip("h264-short.mp4", X264, frames=9),
    Clip("h264.flv", (*X264, "-bf", "2", "-g", "25")),
    Clip("h264-fragmented.mp4", (*X264, "-movflags", "frag_keyframe+empty_moov", "-g", "20")),
    Clip(
        "hevc-open-gop.mp4",
        ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=20", "-pix_fmt", "yuv420p"),
    ),
    Clip("vp8.webm", ("-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime", "-g", "25")),
    Clip("vp9.webm", ("-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", "-g", "25")),
    Clip("av1.mkv", ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "25", "-b:v", "1M")),
    Clip("mpeg2.ts", ("-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-b:v", "3M")),
    Clip("mpeg2.mpg", ("-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-b:v", "3M")),
    Clip("mpeg4.avi", ("-c:v", "mpeg4", "-bf", "2", "-g", "25", "-b:v", "2M")),
    Clip("prores.mov", ("-c:v", "prores_ks", "-profile:v", "1")),
    Clip("mjpeg.mov", ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p")),
    Clip("theora.ogv", ("-c:v", "libtheora", "-q:v", "8", "-g", "25")),
    Clip(
        "late-start.mkv",
        (*X264, "-map", "1:a", "-map", "0:v", "-c:a", "pcm_s16le"),
        filters="setpts=PTS+0.72/TB",
        before=("-f", "lavfi", "-i", "sine=duration=4"),
    ),
]
CLIPS += [
    Clip("h264-intra-refresh.mp4", (*X264, "-bf", "0", "-g", "20", "-x264-params", "intra-refresh=1")),
    Clip(
        "hevc-temporal-layers.mkv",
        (*("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
         *("-x265-params", "log-level=error:keyint=25:bframes=3:b-pyramid=1:temporal-layers=3")),
    ),
    Clip("h263-all-keyframes.avi", ("-c:v", "h263", "-g", "30", "-q:v", "4"), size=(176, 144), rate="30000/1001"),
    Clip("msmpeg4.avi", ("-c:v", "msmpeg4", "-g", "25", "-q:v", "4")),
    Clip("mpeg4-dropped.avi", ("-c:v", "mpeg4", "-g", "25", "-q:v", "4", "-fps_mode", "vfr"), filters=_VFR),
    Clip("mpeg4-packed.avi", ("-c:v", "libxvid", "-bf", "2", "-g", "25", "-q:v", "4")),
    Clip("mpeg1.m1v", ("-c:v", "mpeg1video", "-bf", "2", "-g", "12", "-b:v", "2M")),
    Clip("vp8-offset.mkv", ("-c:v", "libvpx", "-deadline", "realtime", "-g", "25", "-output_ts_offset", "3.1")),
]  # fmt: skip
UNTIMED = {"h264-in-avi.avi", "mpeg4-packed.avi", "mpeg1.m1v"}
"""Clips that carry no times, or none to rely on."""
BY_NAME = {clip.name: clip for clip in CLIPS}
