"""Known colours come out as they were, in every matrix, range and format, by both engines."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.media.clips import ffmpeg
from tests.media.extracting import run

PATCH = 48
COLOURS = np.array(
    [
        *[(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 40, 120), (16, 235, 90), (255, 0, 0), (0, 255, 0)],
        *[(0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (30, 60, 90), (240, 200, 160), (90, 30, 60)],
        *[(10, 10, 30), (250, 240, 255)],
    ]
)
ACROSS = 4
_WEIGHTS = {"smpte170m": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593)}
"""Of red and blue in luma: ITU-R BT.601, BT.709, BT.2020."""


@dataclass(frozen=True)
class Coding:
    """How patches become samples. `pixel_format` is FFmpeg's name of planar YUV."""

    matrix: str
    full: bool
    pixel_format: str = "yuv420p"

    def samples(self) -> bytes:
        """A raw frame, by the equations of the standards."""
        depth = 10 if "10" in self.pixel_format else 8
        red, green, blue = (
            COLOURS.reshape(-1, ACROSS, 3)[..., i].repeat(PATCH, 0).repeat(PATCH, 1) / 255 for i in range(3)
        )
        red_weight, blue_weight = _WEIGHTS[self.matrix]
        luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
        chroma = (blue - luma) / 2 / (1 - blue_weight), (red - luma) / 2 / (1 - red_weight)
        unit, top = 2 ** (depth - 8), 2**depth - 1
        across, down = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[self.pixel_format[3:6]]
        planes = [luma * top if self.full else (16 + 219 * luma) * unit]
        scale = top if self.full else 224 * unit
        planes += [(128 * unit + plane * scale)[::down, ::across] for plane in chroma]
        kind = np.uint8 if depth == 8 else np.dtype("<u2")
        return b"".join(plane.round().clip(0, top).astype(kind).tobytes() for plane in planes)

    def raw(self) -> tuple[str, ...]:
        """FFmpeg's options for `samples` as input."""
        height, width = PATCH * len(COLOURS) // ACROSS, PATCH * ACROSS
        return ("-f", "rawvideo", "-pix_fmt", self.pixel_format, "-s", f"{width}x{height}", "-r", "5", "-i", "pipe:0")

    def make(self, folder: Path) -> Path:
        """A lossless H.264 video of the patches, tagged as what it is."""
        path = folder / f"{self.matrix}-{self.full}-{self.pixel_format}.mp4"
        width = "pc" if self.full else "tv"
        tags = ("-vf", f"setparams=range={width}:colorspace={self.matrix}", "-colorspace", self.matrix)
        ffmpeg(*self.raw(), *tags, "-color_range", width, "-c:v", "libx264", "-qp", "0", str(path), data=self.samples())
        return path


CODINGS = [Coding(matrix, full) for matrix in ("smpte170m", "bt709") for full in (False, True)]
CODINGS += [Coding("bt2020nc", full, "yuv420p10le") for full in (False, True)]  # it is defined for 10 bits and more
CODINGS += [Coding("bt709", False, pixel_format) for pixel_format in ("yuv422p", "yuv444p", "yuv422p10le")]


def middles(image: bytes) -> NDArray[np.int64]:
    """RGB in the middle of each patch."""
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(np.int64)
    return pixels[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].reshape(-1, 3)


@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: f"{coding.matrix}-{coding.full}-{coding.pixel_format}")
def test_patches_come_out_within_2_of_255(coding: Coding, tmp_path: Path) -> None:
    path = coding.make(tmp_path)
    for image_format in ("jpg", "png", "webp"):
        fast, reference = (run(path, format=image_format, engine=engine).images() for engine in ("fast", "ffmpeg"))
        assert fast == reference
        assert np.abs(middles(fast[0]) - COLOURS).max() <= 2, image_format


def test_edges_lie_at_the_same_place_in_every_format(tmp_path: Path) -> None:
    path = Coding("bt709", False).make(tmp_path)
    places = []
    for image_format in ("png", "jpg", "webp"):
        pixels = np.asarray(
            Image.open(io.BytesIO(run(path, format=image_format, quality=100).images()[0])).convert("RGB")
        )
        middle = PATCH // 2
        row = pixels[PATCH + middle, middle : PATCH + middle].astype(float)  # green on the left, red on the right
        share = (row - row[-1]) / (row[0] - row[-1])
        places.append(share[:, :2].sum(axis=0))
    assert np.abs(np.array(places) - PATCH // 2).max() < 0.25


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_colours_stay_right_where_the_coding_changes(image_format: str, tmp_path: Path) -> None:
    """By the tags of each picture, and by its size where it has none."""
    codings = Coding("smpte170m", False), Coding("bt709", False), Coding("bt709", True), Coding("smpte170m", True)
    changing = tmp_path / "tags.mkv"
    streams = [_annex_b(coding.make(tmp_path)) for coding in codings]
    ffmpeg("-f", "h264", "-r", "5", "-i", "pipe:0", "-c", "copy", str(changing), data=b"".join(streams))
    images = run(changing, format=image_format, quality=100, engine="fast", every=0.2).images()
    assert len(images) == len(codings)
    for image in images:
        assert np.abs(middles(image) - COLOURS).max() <= 2


def test_untagged_pictures_go_by_their_own_height(tmp_path: Path) -> None:
    colour = (200, 40, 120)
    parts = []
    for size, matrix in (("640x480", "smpte170m"), ("1280x720", "bt709")):
        still = f"color=0x{bytes(colour).hex()}:s={size}:d=1:r=5,scale=out_color_matrix={matrix}:flags=accurate_rnd"
        parts.append(ffmpeg("-f", "lavfi", "-i", f"{still},format=yuv420p", "-c:v", "libx264", "-qp", "0",
                            "-f", "h264", "pipe:1"))  # fmt: skip
    path = tmp_path / "sizes.mkv"
    ffmpeg("-f", "h264", "-r", "5", "-i", "pipe:0", "-c", "copy", str(path), data=b"".join(parts))
    for image in run(path, format="png", engine="fast", fps=1).images():
        assert np.abs(np.asarray(Image.open(io.BytesIO(image)))[240, 320].astype(int) - colour).max() <= 2


def _annex_b(path: Path) -> bytes:
    return ffmpeg("-i", str(path), "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264", "pipe:1")
