"""Sizes, formats, alpha and deinterlacing: each against a source whose right answer is known, by both engines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fiapx.core.errors import FrameTooLarge
from tests.media.clips import BY_NAME, X264, Clip, ffmpeg, read_number
from tests.media.extracting import Extracted, run
from tests.media.test_engines import _set_rotation

_HEVC = ("-c:v", "libx265", "-x265-params", "lossless=1:log-level=error")
_WOVEN = "interlace=scan=tff:lowpass=0"


def both(path: Path, **options: Any) -> Extracted:
    """The result of the fast engine, which is the same as that of the other."""
    fast, reference = (run(path, engine=engine, **options) for engine in ("fast", "ffmpeg"))
    assert fast.images() == reference.images()
    assert [frame["width"] for frame in fast.manifest()["frames"]] == [
        frame["width"] for frame in reference.manifest()["frames"]
    ]
    return fast


def picture(image: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image))


def generated(path: Path, pixels: str, *encoder: str, size: str = "64x48") -> Path:
    """A video of one still picture, given as filters on grey."""
    ffmpeg("-f", "lavfi", "-i", f"color=gray:s={size}:d=0.4:r=5", "-vf", pixels, *encoder, str(path))
    return path


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"width": 96}, (96, 64)),
        ({"height": 64}, (96, 64)),
        ({"width": 96, "height": 32}, (48, 32)),
        ({"width": 50, "height": 500}, (50, 33)),
        ({"width": 384}, (192, 128)),
        ({"width": 384, "height": 1000, "upscale": True}, (384, 256)),
        ({"width": 1000, "height": 256, "upscale": True}, (384, 256)),
        ({"height": 64, "upscale": True}, (96, 64)),
    ],
    ids=str,
)
@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_pictures_fit_into_width_and_height(
    options: dict[str, Any], size: tuple[int, int], image_format: str, clips: Path
) -> None:
    extracted = both(BY_NAME["h264-bframes.mp4"].make(clips), fps=1, format=image_format, **options)
    images = extracted.images()
    assert {picture(image).size for image in images} == {size}
    assert [read_number(image, scale=192 / size[0]) for image in images] == [0, 25, 50]


def test_sizes_hold_for_the_upright_picture(clips: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    source = BY_NAME["h264-bframes.mp4"].make(clips)
    _set_rotation(source, turned, 90)
    assert {picture(image).size for image in both(turned, height=96).images()} == {(64, 96)}


def test_all_pictures_have_the_size_of_the_first(tmp_path: Path) -> None:
    colours = {"red": "192x128", "lime": "96x64", "blue": "320x200"}
    parts = [
        ffmpeg("-f", "lavfi", "-i", f"color={colour}:s={size}:d=1:r=5", *X264, "-bf", "0", "-f", "h264", "pipe:1")
        for colour, size in colours.items()
    ]
    path = tmp_path / "changing.mkv"
    ffmpeg("-f", "h264", "-r", "5", "-i", "pipe:0", "-c", "copy", str(path), data=b"".join(parts))
    for image_format in ("jpg", "png"):
        images = [picture(image).convert("RGB") for image in both(path, fps=1, format=image_format).images()]
        assert {image.size for image in images} == {(192, 128)}
        assert [np.asarray(image)[60, 100].argmax() for image in images] == [0, 1, 2]


def test_a_webp_holds_16383_pixels_a_side(tmp_path: Path) -> None:
    path = generated(tmp_path / "wide.mov", "format=yuvj420p", "-c:v", "mjpeg", size="16400x16")
    with pytest.raises(FrameTooLarge, match="16383"):
        run(path, format="webp")
    assert {picture(image).size for image in both(path, format="webp", width=1640).images()} == {(1640, 2)}


@pytest.mark.parametrize(("image_format", "known"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_quality_counts(image_format: str, known: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    good, bad = (both(path, fps=1, format=image_format, quality=quality).images() for quality in (90, 10))
    assert [read_number(image) for image in good] == [read_number(image) for image in bad] == [0, 25, 50]
    assert {picture(image).format for image in good} == {known}
    assert len(bad[0]) < len(good[0]) / 2


_PALETTE = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
_RGBA = "format=rgba,geq=r=200:g=100:b=48:a=X*255/63"


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("png.mov", ("-c:v", "png", "-pix_fmt", "rgba")),
        ("prores.mov", ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le")),
        ("vp8.webm", ("-c:v", "libvpx", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "9M", "-pix_fmt", "yuva420p")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-lossless", "1", "-pix_fmt", "yuva420p")),
    ],
)
def test_alpha_is_kept_and_jpeg_lies_on_black(name: str, encoder: tuple[str, ...], tmp_path: Path) -> None:
    matrix = "scale=out_color_matrix=smpte170m:flags=accurate_rnd+full_chroma_int"
    path = generated(tmp_path / name, f"{_RGBA},{matrix},format={encoder[-1]}", *encoder)
    alpha = np.arange(64) * 255 / 63
    for image_format in ("png", "webp"):
        pixels = np.asarray(picture(both(path, format=image_format).images()[0]))[20].astype(int)
        assert np.abs(pixels[:, 3] - alpha).max() <= 2
        assert np.abs(pixels[1:, :3] - (200, 100, 48)).max() <= 5
    pixels = np.asarray(picture(both(path).images()[0]))[20].astype(int)
    assert np.abs(pixels - np.outer(alpha / 255, (200, 100, 48))).max() <= 8


@pytest.mark.parametrize(
    ("name", "pixels", "encoder"),
    [
        ("gray.mkv", "format=gray,geq=lum=16+X*219/63", (*_HEVC, "-pix_fmt", "gray", "-color_range", "tv")),
        ("gray10.mkv", "format=gray10,geq=lum=64+X*876/63", (*_HEVC, "-pix_fmt", "gray10le", "-color_range", "tv")),
        ("gray-full.mov", "format=gray,geq=lum=X*255/63", ("-c:v", "png", "-pix_fmt", "gray")),
        ("gray16.mov", "format=gray16,geq=lum=X*65535/63", ("-c:v", "png", "-pix_fmt", "gray16be")),
        ("rgb48.mov", "format=gray16,geq=lum=X*65535/63", ("-c:v", "png", "-pix_fmt", "rgb48be")),
        ("pal8.mov", "format=gray,geq=lum=X*255/63,format=rgb24," + _PALETTE,
         ("-c:v", "png", "-pix_fmt", "pal8")),
        ("gif.gif", "format=gray,geq=lum=X*255/63,format=rgb24," + _PALETTE, ()),
        ("rgb.mkv", "format=gray,geq=lum=X*255/63", ("-c:v", "libx264rgb", "-qp", "0")),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[:12] else "",
)  # fmt: skip
def test_a_ramp_comes_out_whole(name: str, pixels: str, encoder: tuple[str, ...], tmp_path: Path) -> None:
    path = generated(tmp_path / name, pixels, *encoder)
    for image_format, width, tolerance in (("png", 64, 2), ("jpg", 32, 6)):
        image = picture(both(path, format=image_format, width=width).images()[0]).convert("RGB")
        ramp = (np.arange(64) * 255 / 63).reshape(width, -1).mean(axis=1)
        assert np.abs(np.asarray(image)[20] - ramp[:, None]).max() <= tolerance, image_format


def test_black_and_white_is_black_and_white(tmp_path: Path) -> None:
    path = generated(tmp_path / "mono.mov", "format=gray,geq=lum=255*lt(X\\,32)", "-c:v", "png", "-pix_fmt", "monob")
    pixels = np.asarray(picture(both(path, format="png").images()[0]))[20, :, 0]
    assert pixels.tolist() == [255] * 32 + [0] * 32


def combed(image: bytes) -> float:
    """How much more neighbouring rows differ than rows of the same field."""
    rows: NDArray[np.float64] = np.asarray(picture(image).convert("L"))[16:].astype(float)
    return float(np.abs(rows[1:-1] - rows[:-2]).mean() / np.abs(rows[2:] - rows[:-2]).mean())


def test_deinterlacing_shows_the_first_field_alone(clips: Path) -> None:
    path = Clip("woven.mp4", (*X264, "-qp", "1", "-flags", "+ilme+ildct"), filters=_WOVEN).make(clips)
    for image_format in ("jpg", "png"):
        woven, mended = (both(path, fps=2, format=image_format, deinterlace=mode).images() for mode in ("off", "auto"))
        assert [read_number(image) for image in mended] == [0, 12, 24, 36, 50, 62]
        assert min(combed(image) for image in woven) > 1 > 0.75 > max(combed(image) for image in mended)


def test_on_mends_what_is_not_marked(clips: Path) -> None:
    path = Clip("unmarked.mp4", (*X264, "-qp", "1"), filters=f"{_WOVEN},setfield=prog").make(clips)
    off, auto, on = (both(path, fps=2, format="png", deinterlace=mode).images() for mode in ("off", "auto", "on"))
    assert auto == off != on
    assert min(combed(image) for image in auto) > 1 > 0.75 > max(combed(image) for image in on)


def test_auto_leaves_progressive_video_as_it_is(clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    assert both(path, fps=2, deinterlace="auto").images() == run(path, fps=2).images()
