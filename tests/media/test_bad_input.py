"""Every bad file ends in one stable code, by either engine, and nothing else is read or reached."""

from __future__ import annotations

import random
import shutil
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fiapx.core.errors import FiapxError
from fiapx.media.model import Limits
from tests.media.clips import BY_NAME, X264, Clip, ffmpeg
from tests.media.extracting import run

Maker = Callable[[Path, Path], None]
"""Writes the bad file; the second path is a good MP4."""


SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


def _write(data: bytes) -> Maker:
    def make(path: Path, _good: Path) -> None:
        path.write_bytes(data)

    return make


def _playlist(path: Path, _good: Path) -> None:
    shutil.copy(BY_NAME["mpeg2.ts"].make(_good.parent), path.parent / "secret.ts")
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.ts\n#EXT-X-ENDLIST\n")


def _concat(path: Path, good: Path) -> None:
    shutil.copy(good, path.parent / "secret.mp4")
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")


def _audio_only(path: Path, _good: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", "-f", "mp4", str(path))


def _cover_art(path: Path, _good: Path) -> None:
    picture = path.with_suffix(".png")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-frames:v", "1", str(picture))
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-i", str(picture), "-map", "0", "-map", "1", "-c:a", "aac",
           "-c:v", "copy", "-disposition:v", "attached_pic", "-f", "mp4", str(path))  # fmt: skip


def _unsupported_codec(path: Path, _good: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", "-c:v", "ffv1", "-f", "matroska", str(path))


def _huge_picture(path: Path, _good: Path) -> None:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "color=red:s=12000x12000:d=1:r=1",
        "-c:v",
        "png",
        "-frames:v",
        "1",
        "-f",
        "matroska",
        str(path),
    )


def _no_moov(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def _two_frames_far_apart(path: Path, _good: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x48:r=1:d=2", "-vf", "setpts=N*100000/TB", *X264,
           "-fps_mode", "passthrough", "-f", "matroska", str(path))  # fmt: skip


BAD: dict[str, tuple[Maker, str]] = {
    "zero-bytes": (_write(b""), "unsupported_format"),
    "text": (_write(b"once upon a time\n" * 500), "unsupported_format"),
    "random": (_write(random.Random(7).randbytes(100_000)), "unsupported_format"),
    "subtitles": (_write(b"1\n00:00:01,000 --> 00:00:02,000\nHello\n"), "unsupported_format"),
    "sdp": (_write(SDP), "unsupported_format"),
    "playlist": (_playlist, "unsupported_format"),
    "concat": (_concat, "unsupported_format"),
    "audio-only": (_audio_only, "no_video_stream"),
    "cover-art": (_cover_art, "no_video_stream"),
    "unsupported-codec": (_unsupported_codec, "unsupported_codec"),
    "huge-picture": (_huge_picture, "frame_too_large"),
    "no-moov": (_no_moov, "corrupt_media"),
    "box-head-alone": (_write(struct.pack(">I4s", 8, b"ftyp") + b"isom" * 4), "corrupt_media"),
    "far-apart": (_two_frames_far_apart, "too_many_frames"),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["auto", "fast", "ffmpeg"])
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_has_a_stable_code(kind: str, engine: str, clips: Path, tmp_path: Path) -> None:
    maker, code = BAD[kind]
    path = tmp_path / "video.mp4"
    maker(path, BY_NAME["h264-bframes.mp4"].make(clips))
    with pytest.raises(FiapxError) as caught:
        run(path, engine=engine)
    assert caught.value.code == code
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
def test_a_playlist_makes_no_connection(engine: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        path = tmp_path / "video.mp4"
        port = server.getsockname()[1]
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(FiapxError):
            run(path, engine=engine)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("engine", ["fast", "ffmpeg"])
@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4", "cut.avi"])
def test_a_truncated_video_gives_what_is_there_and_says_so(engine: str, name: str, clips: Path, tmp_path: Path) -> None:
    options = ("-movflags", "+faststart") if name.endswith("mp4") else ()
    codec = ("-c:v", "mpeg4") if name.endswith("avi") else X264
    whole = Clip(f"whole-{name}", (*codec, "-g", "10", *options)).make(clips)
    cut = tmp_path / name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    extracted = run(cut, fps=5, engine=engine)
    assert 3 <= extracted.result.frames < 15
    counts = {warning["code"]: warning["counts"] for warning in extracted.manifest()["warnings"]}["source_truncated"]
    if name.endswith("avi"):  # FFmpeg corrects the duration by the file's size
        assert counts["declared_frames"] == 75
        assert counts["read_frames"] < 60
    else:
        assert counts["declared_ms"] == pytest.approx(3000, abs=50)
        assert counts["read_ms"] < 2500


@pytest.mark.parametrize("engine", ["auto", "fast", "ffmpeg"])
def test_flipped_bytes_give_frames_or_a_clear_error(engine: str, clips: Path, tmp_path: Path) -> None:
    data = bytearray(BY_NAME["h264-bframes.mp4"].make(clips).read_bytes())
    dice = random.Random(3)
    for _ in range(60):
        data[dice.randrange(200, len(data) * 8 // 10)] ^= 0xFF
    path = tmp_path / "flipped.mp4"
    path.write_bytes(data)
    extracted = run(path, fps=5, engine=engine)
    frames, warnings = extracted.manifest()["frames"], extracted.manifest()["warnings"]
    missing = sum(warning["counts"].get("missing", 0) for warning in warnings)
    assert len(frames) + missing == 15


def test_a_name_is_data(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "-i.mp4"
    shutil.copy(BY_NAME["h264-short.mp4"].make(clips), path)
    for engine in ("fast", "ffmpeg"):
        assert run(path, engine=engine).manifest()["source"]["name"] == "-i.mp4"


def test_too_large_a_result_is_refused(clips: Path) -> None:
    with pytest.raises(FiapxError) as caught:
        run(BY_NAME["h264-bframes.mp4"].make(clips), fps=25, format="png", limits=Limits(max_output_bytes=50_000))
    assert caught.value.code == "output_too_large"


def test_no_thread_stays_behind(clips: Path) -> None:
    before = threading.active_count()
    run(BY_NAME["h264-short.mp4"].make(clips), engine="ffmpeg")
    deadline = threading.Event()
    for _ in range(50):
        if threading.active_count() <= before:
            return
        deadline.wait(0.1)
    assert threading.active_count() <= before
