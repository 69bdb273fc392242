"""The ZIP: stored, complete headers, byte ranges, the same bytes each time."""

from __future__ import annotations

import errno
import hashlib
import io
import struct
import zipfile
from fractions import Fraction
from typing import Any

import pytest

from fiapx.core.errors import NoSpace, OutputTooLarge
from fiapx.media.archive import Archive, frame_name

BLOCK = 64 * 1024**2
FILES = {"a.jpg": b"\xff\xd8 first", "b.jpg": b"", "manifest.json": b"{}"}


def build(files: dict[str, bytes] = FILES, max_bytes: int = 10**9) -> tuple[bytes, list[tuple[int, int]], str]:
    output = io.BytesIO()
    with Archive(output, max_bytes) as archive:
        entries = [archive.add(name, data) for name, data in files.items()]
        size, sha256 = archive.close()
    assert size == len(output.getvalue())
    return output.getvalue(), [(entry.offset, entry.size) for entry in entries], sha256


def test_every_entry_is_a_byte_range() -> None:
    data, ranges, sha256 = build()
    assert [data[offset : offset + size] for offset, size in ranges] == list(FILES.values())
    assert sha256 == hashlib.sha256(data).hexdigest()


def test_other_readers_agree() -> None:
    data, _, _ = build()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_headers_hold_sizes_so_that_a_stream_can_be_read() -> None:
    data, _, _ = build()
    signature, _, flags, _, _, _, _, compressed, size, _, _ = struct.unpack("<4s5H3I2H", data[:30])
    assert (signature, flags & 0x08, compressed, size) == (b"PK\x03\x04", 0, len(FILES["a.jpg"]), len(FILES["a.jpg"]))


def test_the_same_entries_give_the_same_bytes() -> None:
    assert build() == build()


def test_more_entries_than_a_classic_zip_can_count() -> None:
    data, ranges, _ = build({f"{number}": b"x" for number in range(65_540)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.infolist()) == 65_540
        assert archive.read("65539") == b"x"
    assert data[ranges[-1][0] : ranges[-1][0] + 1] == b"x"


def test_an_output_may_take_less_than_all_at_once() -> None:
    class Slow(io.BytesIO):
        def write(self, data: Any, /) -> int:
            return super().write(memoryview(data)[:7])

    output = Slow()
    with Archive(output, 10**9) as archive:
        for name, data in FILES.items():
            archive.add(name, data)
        _, sha256 = archive.close()
    assert hashlib.sha256(output.getvalue()).hexdigest() == sha256


def test_ranges_and_directory_hold_past_four_gigabytes() -> None:
    """Entries of one repeated block, of which only the first bytes of each and the directory are kept."""

    class Sparse(io.RawIOBase):
        size = 0
        kept: dict[int, bytes] = {}  # noqa: RUF012 - one instance

        def write(self, data: Any, /) -> int:
            self.kept[self.size] = bytes(data[:100] if len(data) > BLOCK else data)
            self.size += len(data)
            return len(data)

    output = Sparse()
    with Archive(output, 10**12) as archive:
        block = bytes(BLOCK)
        entries = [archive.add(f"{number}", block) for number in range(68)]
        entries.append(archive.add("last", b"the end"))
        size, _ = archive.close()
    header = output.kept[entries[-1].offset - 30 - len("last")]
    assert size > 4 * 1024**3
    assert header.endswith(b"the end")
    directory = output.kept[max(output.kept)]
    assert b"PK\x06\x06" in directory, "a ZIP64 end of directory"
    assert struct.pack("<Q", entries[-1].offset - 30 - len("last")) in directory


def test_growth_is_bounded() -> None:
    with pytest.raises(OutputTooLarge):
        build({"a": bytes(2000)}, max_bytes=1000)


def test_a_full_disk_is_said_to_be_full() -> None:
    class Full(io.RawIOBase):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(NoSpace), Archive(Full(), 10**9) as archive:
        archive.add("a", b"x")


def test_names_sort_and_show_the_time() -> None:
    assert frame_name(1, Fraction(0), "jpg") == "frame_000001_00-00-00.000.jpg"
    assert frame_name(3700, Fraction(100_000_199, 10_000), "png") == "frame_003700_02-46-40.019.png"
