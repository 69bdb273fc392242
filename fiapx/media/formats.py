"""What may be opened: containers, decoders and protocols. Everything else is refused before a byte is decoded.

FFmpeg knows some 400 demuxers and 500 decoders; playlists among them open other files and hosts, and rarely used
decoders are where memory bugs are found. Both engines enforce these lists.
"""

from __future__ import annotations

from typing import Final

FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,gif"  # FFmpeg's own names
EXTENSIONS: Final = frozenset(
    (
        *("mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "divx", "3gp", "3g2", "mj2", "flv", "f4v", "asf", "wmv"),
        *("mpg", "mpeg", "mpe", "m1v", "m2v", "vob", "ts", "m2ts", "mts", "m2t", "ogv", "ogm"),
    )
)
"""What files of these containers are called. It says what to take from a folder, and never how to read a file."""
DECODERS: Final = frozenset(
    (
        *("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg1video", "mpeg2video", "mpeg4", "theora", "mjpeg"),
        *("prores", "dvvideo", "h263", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "flv", "vp6f"),
        *("gif", "png", "libvpx", "libvpx-vp9"),
    )
)
ALPHA_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that know of alpha, by the ones of FFmpeg's own that drop it."""
JOINABLE: Final = frozenset({"mpegts", "mpeg"})
"""Containers that may start their clock anew in the middle."""
PROTOCOLS: Final = "file"
MAX_STREAMS: Final = 64
DECODER_OPTIONS: Final = {"flags": "+bitexact", "idct": "simple"}
"""Without them, MPEG-4's pictures differ by one step in a pixel or two between versions of FFmpeg."""

_ASF_GUID = bytes.fromhex("3026b2758e66cf11")
_ISO_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp"}
_MAGIC = (b"\x1a\x45\xdf\xa3", b"OggS", b"FLV\x01", b"GIF8", _ASF_GUID, b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
_TS_PACKET = 188


def looks_like_video(head: bytes) -> bool:
    """Whether the first bytes (200 are enough) are those of a supported container.

    Tells a damaged video from a file that never was one, for the error message alone.
    """
    return (
        head[4:8] in _ISO_BOXES
        or head.startswith(_MAGIC)
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:1] == b"\x47" and head[_TS_PACKET : _TS_PACKET + 1] == b"\x47")
    )
