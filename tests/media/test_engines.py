"""Both engines give the frames that the rule names, pixel for pixel alike, and FFmpeg's own choice agrees."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fiapx.core.errors import FrameTooLarge, UnsupportedFormat
from fiapx.media.filters import chain
from fiapx.media.model import VideoInfo
from fiapx.media.style import Style
from tests.media.clips import BY_NAME, CLIPS, UNTIMED, X264, Clip, ffmpeg, read_number, witness
from tests.media.extracting import Extracted, run


def _scale(extracted: Extracted) -> str:
    """The conversion of the manifest's source as a filter, so that the witness differs in choice and decoding alone."""
    source = extracted.manifest()["source"]
    info = VideoInfo(
        format="", codec="", width=source["width"], height=source["height"], pixel_format=source["pixel_format"],
        sample_aspect=Fraction(source["sample_aspect_ratio"]), matrix="smpte170m",
        full_range=source["pixel_format"].startswith("yuvj"), orientation=(), rotation=0, time_base=Fraction(1),
        start_pts=0, declared_duration=None, declared_frames=0,
    )  # fmt: skip
    steps = [
        (name, ":".join(f"{key}={value}" for key, value in given.items()))
        for name, given in chain(info, Style(format="png"))
    ]
    return ",".join(f"{name}={given}" if given else name for name, given in steps)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
@pytest.mark.parametrize("fps", ["3", "1/2"])
def test_engines_give_the_same_pixels_as_ffmpegs_own_fps_filter(clip: Clip, fps: str, clips: Path) -> None:
    path = clip.make(clips)
    fast = run(path, fps=fps, format="png", engine="auto")
    reference = run(path, fps=fps, format="png", engine="ffmpeg")
    assert reference.result.engine == "ffmpeg"
    assert fast.result.engine == ("ffmpeg" if clip.name in UNTIMED else "fast")
    assert fast.result.warnings == reference.result.warnings == ()
    assert [frame["file"] for frame in fast.manifest()["frames"]] == [
        frame["file"] for frame in reference.manifest()["frames"]
    ]
    digests = fast.pixel_digests()
    assert digests == reference.pixel_digests()
    expected = witness(path, fps, [_scale(fast)])
    assert digests == expected or (not expected and len(digests) == 1)


def _by_rule(times: list[Fraction], end: Fraction, rate: Fraction) -> list[int]:
    """The rule, written down a second time: numbers of the frames shown at k/F. Times are exact frame times."""
    wanted, k = [], 0
    while Fraction(k) / rate < end:
        shown = [number for number, time in enumerate(times) if time <= Fraction(k) / rate]
        wanted += [shown[-1]] if shown else []
        k += 1
    return wanted or [0]


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
@pytest.mark.parametrize("fps", ["1", "3", "1/2", "29.97", "50"])
@pytest.mark.parametrize("name", ["h264-bframes.mp4", "hevc-open-gop.mp4", "vp9.webm", "mpeg2.ts", "h264-ntsc.mp4"])
def test_the_frame_is_the_one_shown_at_the_wanted_time(name: str, fps: str, engine: str, clips: Path) -> None:
    clip = BY_NAME[name]
    rate = Fraction(clip.rate)
    extracted = run(clip.make(clips), fps=fps, format="png", engine=engine)
    times = [number / rate for number in range(clip.frames)]
    expected = _by_rule(times, clip.frames / rate, Fraction(fps))
    assert [read_number(image) for image in extracted.images()] == expected


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_variable_frame_rate_repeats_a_frame_that_is_shown_for_long(engine: str, clips: Path) -> None:
    clip = BY_NAME["h264-vfr.mp4"]
    extracted = run(clip.make(clips), fps="25", format="png", engine=engine)
    times = [Fraction(number + number // 7 * 3, 25) for number in range(clip.frames)]
    numbers = [read_number(image) for image in extracted.images()]
    assert numbers[:12] == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 7, 8]
    assert numbers == _by_rule(times, Fraction(len(numbers), 25), Fraction(25))
    assert len(numbers) >= times[-1] * 25


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_a_late_video_starts_at_the_first_whole_time_after_its_first_frame(engine: str, clips: Path) -> None:
    extracted = run(BY_NAME["late-start.mkv"].make(clips), fps="1", format="png", engine=engine)
    assert [frame["time"] for frame in extracted.manifest()["frames"]] == [1.0, 2.0, 3.0]
    assert [read_number(image) for image in extracted.images()] == [7, 32, 57]


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_a_clip_under_an_interval_gives_its_first_frame(engine: str, clips: Path) -> None:
    extracted = run(BY_NAME["h264-short.mp4"].make(clips), fps="1/5", format="png", engine=engine)
    assert [read_number(image) for image in extracted.images()] == [0]


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_a_range_selects_from_the_same_grid(engine: str, clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    extracted = run(path, every="500ms", start="0.9", end="2s", format="png", engine=engine)
    assert [frame["time"] for frame in extracted.manifest()["frames"]] == [1.0, 1.5]
    assert [read_number(image) for image in extracted.images()] == [25, 37]
    between = run(path, fps=1, start="0.2", end="0.4", format="png", engine=engine)
    assert [(frame["time"], frame["shown_at"]) for frame in between.manifest()["frames"]] == [(0.2, 0.2)]


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
@pytest.mark.parametrize(
    ("rotation", "size", "corner"),
    [(90, (128, 192), "upper right"), (180, (192, 128), "lower right"), (270, (128, 192), "lower left")],
)
def test_rotation_is_respected(
    engine: str, rotation: int, size: tuple[int, int], corner: str, clips: Path, tmp_path: Path
) -> None:
    upright = BY_NAME["h264-bframes.mp4"].make(clips)
    turned = tmp_path / "turned.mp4"
    _set_rotation(upright, turned, rotation)
    extracted = run(turned, fps=1, format="png", engine=engine)
    assert extracted.manifest()["source"]["rotation"] == rotation
    images = [Image.open(io.BytesIO(image)) for image in extracted.images()]
    assert {image.size for image in images} == {size}
    back = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}[rotation]
    assert [_number(image.transpose(back)) for image in images] == [0, 25, 50], corner


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_an_upside_down_rgb_video_is_turned(engine: str, tmp_path: Path) -> None:
    """vflip hands rows over in reverse, and scale leaves RGB of the right size as it is."""
    plain, turned = tmp_path / "plain.mov", tmp_path / "turned.mov"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=5:d=1", "-c:v", "png", "-pix_fmt", "rgb24", str(plain))
    _copy(plain, turned, vflip=True)
    pictures = [Image.open(io.BytesIO(run(path, format="png", engine=engine).images()[0])) for path in (plain, turned)]
    assert pictures[0].transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes() == pictures[1].tobytes()


@pytest.mark.parametrize("engine", ["auto", "fast", "ffmpeg"])
def test_a_recording_that_starts_between_keyframes_begins_with_the_first_whole_frame(
    engine: str, clips: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.ts"
    source = Clip("group.ts", ("-c:v", "mpeg2video", "-bf", "0", "-g", "10", "-b:v", "3M"))
    ffmpeg("-i", str(source.make(clips)), "-c", "copy", "-bsf:v", "noise=drop=lt(n\\,5)", str(cut))
    extracted = run(cut, fps=25, format="png", engine=engine)
    assert [read_number(image) for image in extracted.images()] == list(range(10, 75))
    assert extracted.result.warnings == ()


@pytest.mark.parametrize("engine", ["auto", "ffmpeg"])
def test_joined_recordings_whose_clocks_start_anew_are_read_to_the_end(
    engine: str, clips: Path, tmp_path: Path
) -> None:
    once = Clip("joined.ts", (*X264, "-g", "25")).make(clips).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(once + once)
    numbers = [read_number(image) for image in run(joined, fps=5, format="png", engine=engine).images()]
    assert numbers == [*range(0, 75, 5)] * 2


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_an_absurd_aspect_ratio_makes_no_giant(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "wide.avi"
    source = "testsrc2=s=640x64:r=5:d=1,setsar=sar=255:max=255"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mpeg4", str(path))
    with pytest.raises(FrameTooLarge):
        run(path, engine=engine)
    frames = run(path, engine=engine, width=640).manifest()["frames"]
    assert {(frame["width"], frame["height"]) for frame in frames} == {(640, 1)}


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_pixels_are_square_and_width_never_scales_up(engine: str, clips: Path) -> None:
    path = BY_NAME["h264-anamorphic.mp4"].make(clips)
    for width, size in ((None, (256, 128)), (128, (128, 64)), (4096, (256, 128))):
        frames = run(path, fps=1, width=width, engine=engine).manifest()["frames"]
        assert {(frame["width"], frame["height"]) for frame in frames} == {size}


def test_jpegs_of_both_engines_are_the_same_file(clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    fast, reference = (run(path, fps=2, quality=80, engine=engine) for engine in ("fast", "ffmpeg"))
    assert fast.images() == reference.images()
    assert all(image.startswith(b"\xff\xd8\xff") for image in fast.images())


def test_untagged_hd_is_bt709_and_sd_is_bt601(tmp_path: Path) -> None:
    for height, matrix in ((720, "bt709"), (480, "smpte170m")):
        path = tmp_path / f"{height}.mp4"
        convert = f"scale=out_color_matrix={matrix}:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p"
        ffmpeg("-f", "lavfi", "-i", f"color=0xC82878:s=1280x{height}:d=0.2:r=10,format=rgb24,{convert}",
               "-c:v", "libx264", "-qp", "1", str(path))  # fmt: skip
        for engine in ("fast", "ffmpeg"):
            picture = Image.open(io.BytesIO(run(path, format="png", engine=engine).images()[0]))
            assert np.abs(np.asarray(picture)[99, 99].astype(int) - (200, 40, 120)).max() <= 2


def test_the_same_request_gives_the_same_bytes(clips: Path) -> None:
    path = BY_NAME["h264-bframes.mp4"].make(clips)
    assert run(path, fps=5).data == run(path, fps=5).data


def test_fast_alone_refuses_streams_without_timestamps(clips: Path) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        run(BY_NAME["h264-in-avi.avi"].make(clips), engine="fast")
    assert caught.value.hint == "Use --engine auto."


def _number(image: Image.Image) -> int:
    data = io.BytesIO()
    image.save(data, "PNG")
    return read_number(data.getvalue())


def _set_rotation(source: Path, target: Path, clockwise: int) -> None:
    _copy(source, target, degrees=-clockwise)


def _copy(source: Path, target: Path, degrees: int = 0, *, vflip: bool = False) -> None:
    """Copy the stream with a display matrix; PyAV counts counter-clockwise."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        stream.set_display_rotation(degrees, vflip=vflip)
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
