"""PQ and HLG: tone-mapped as FFmpeg's zscale and tonemap do it, or kept as they are in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.clips import BY_NAME, Clip, ffmpeg, ffmpeg_binary, read_number
from tests.media.extracting import run
from tests.media.test_colours import ACROSS, COLOURS, PATCH, Coding, middles

TRANSFERS = {"PQ": "smpte2084", "HLG": "arib-std-b67"}
_TONE_MAPPED = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,"
    "zscale=t=bt709:m=bt709:r=pc,format=gbrp,format=rgb24"
)


def make(
    path: Path, transfer: str, *, full: bool = False, parameters: Sequence[str] = (), primaries: str = "bt2020"
) -> Path:
    """A lossless 10-bit HEVC video of the patches in BT.2020 or other primaries, with more parameters of x265."""
    coding = Coding("bt2020nc", full, "yuv444p10le")
    tags = f"range={'pc' if full else 'tv'}:color_primaries={primaries}:color_trc={transfer}:colorspace=bt2020nc"
    colours = (
        f"colorprim={primaries}",
        f"transfer={transfer}",
        "colormatrix=bt2020nc",
        f"range={'full' if full else 'limited'}",
    )
    x265 = ":".join(("log-level=error", "lossless=1", *colours, *parameters))
    encoder = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", x265)
    ffmpeg(*coding.raw(), "-vf", f"setparams={tags}", *encoder, str(path), data=coding.samples())
    return path


def expected(path: Path) -> NDArray[np.int64]:
    """The patches by FFmpeg's own filters."""
    binary = ffmpeg_binary() if "zscale" in ffmpeg("-filters").decode() else imageio_ffmpeg.get_ffmpeg_exe()
    image = ("-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "pipe:1")
    return middles(ffmpeg("-i", str(path), "-vf", _TONE_MAPPED, *image, binary=binary))


@pytest.mark.parametrize(
    ("name", "primaries", "light"),
    [
        ("PQ", "bt2020", ()),
        ("HLG", "bt2020", ()),
        ("PQ", "smpte432", ()),
        ("HLG", "smpte432", ()),
        ("PQ", "bt709", ()),
        ("PQ", "bt2020", ("max-cll=4000,400",)),
        ("PQ", "bt2020", ("master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(6000000,50)",)),
    ],
    ids=["pq", "hlg", "pq-p3", "hlg-p3", "pq-bt709", "light-level", "mastering-display"],
)
def test_hdr_is_tone_mapped_as_ffmpeg_does(name: str, primaries: str, light: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path / "hdr.mkv", TRANSFERS[name], parameters=light, primaries=primaries)
    right = expected(path)
    for image_format, tolerance in (("png", 1), ("jpg", 3)):
        fast, reference = (run(path, format=image_format, engine=engine) for engine in ("fast", "ffmpeg"))
        assert fast.images() == reference.images()
        assert np.abs(middles(fast.images()[0]) - right).max() <= tolerance, image_format
    assert fast.manifest()["source"]["hdr"] == name


@pytest.mark.parametrize(("name", "full", "number"), [("PQ", False, 16), ("PQ", True, 16), ("HLG", False, 18)])
def test_hdr_is_kept_in_16_bits(name: str, full: bool, number: int, tmp_path: Path) -> None:
    path = make(tmp_path / "hdr.mkv", TRANSFERS[name], full=full)
    fast, reference = (run(path, format="png", hdr="keep", engine=engine).images() for engine in ("fast", "ffmpeg"))
    assert fast == reference
    assert fast[0][12:16] == b"IHDR"
    assert fast[0][24] == 16
    assert fast[0][37:45] == b"cICP" + bytes((9, number, 0, 1))
    raw = ffmpeg("-f", "png_pipe", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "rgb48le", "pipe:1", data=fast[0])
    pixels = np.frombuffer(raw, "<u2").reshape(-1, PATCH * ACROSS, 3)[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
    assert np.abs(pixels.reshape(-1, 3) / 65535 - COLOURS / 255).max() < 1.2 / 876  # half a step in luma, and in chroma


def test_sdr_is_not_touched_by_keeping_hdr(clips: Path) -> None:
    path = BY_NAME["h264-10bit.mkv"].make(clips)
    assert run(path, format="png", hdr="keep").images() == run(path, format="png").images()


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
@pytest.mark.parametrize("hdr", ["tonemap", "keep"])
def test_hdr_gives_the_frames_that_are_shown(hdr: str, engine: str, tmp_path: Path) -> None:
    x265 = "log-level=error:keyint=20:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    encoder = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", x265, "-pix_fmt", "yuv420p10le")
    extracted = run(Clip("pq.mkv", encoder).make(tmp_path), format="png", hdr=hdr, engine=engine, fps="5")
    assert extracted.manifest()["source"]["hdr"] == "PQ"
    assert [read_number(image) for image in extracted.images()] == list(range(0, 75, 5))
