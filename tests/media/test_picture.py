"""What is measured of a picture is the same whatever its layout."""

from __future__ import annotations

import numpy as np
import pytest

from fiapx.media.picture import Picture

COLOURS = np.array([[(200, 40, 120), (16, 235, 90)], [(255, 255, 255), (0, 0, 255)]], np.uint8)
LUMA = [[97, 153], [255, 29]]
"""0.299 R + 0.587 G + 0.114 B, rounded."""
LEVELS = np.arange(256, dtype=np.uint16) * 257
RGB = COLOURS.repeat(48, axis=0).repeat(64, axis=1)


def _yuv420() -> Picture:
    red, green, blue = (RGB[..., channel].astype(float) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = (128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402)
    planes = (luma, *(plane[::2, ::2] for plane in chroma))
    return Picture("yuv420", tuple(plane.round().clip(0, 255).astype(np.uint8) for plane in planes))


PICTURES = [
    Picture("rgb", (RGB,)),
    Picture("rgba", (np.dstack((RGB, np.full(RGB.shape[:2], 255, np.uint8))),)),
    Picture("rgb48", tuple(RGB[..., channel].astype(np.uint16) for channel in range(3)), levels=LEVELS),
    _yuv420(),
]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.layout)
def test_brightness_and_means_do_not_depend_on_the_layout(picture: Picture) -> None:
    assert (picture.width, picture.height) == (128, 96)
    assert picture.luma()[24::48, 32::64].tolist() == LUMA
    assert np.abs(picture.small(2, 2).astype(int) - COLOURS).max() <= 1
    across = picture.small(1, 2)[:, 0].astype(int)
    assert np.abs(across - COLOURS.mean(axis=1)).max() <= 1.5


def test_means_are_of_every_pixel_once() -> None:
    ramp = np.arange(7 * 5, dtype=np.uint8).reshape(5, 7)
    small = Picture("rgb", (np.dstack([ramp] * 3),)).small(3, 2)[..., 0]
    blocks = [[ramp[a:b, c:d].mean().round() for c, d in ((0, 2), (2, 4), (4, 7))] for a, b in ((0, 2), (2, 5))]
    assert small.tolist() == blocks


def test_transparency_is_black() -> None:
    pixels = np.dstack((RGB, np.full(RGB.shape[:2], 51, np.uint8)))
    assert np.abs(Picture("rgba", (pixels,)).rgb().astype(float) - RGB * 0.2).max() <= 0.5


def test_a_picture_may_be_smaller_than_what_it_is_made_small_to() -> None:
    assert Picture("rgb", (RGB[:1, :1],)).small(16, 9).tolist() == [[[200, 40, 120]] * 16] * 9
