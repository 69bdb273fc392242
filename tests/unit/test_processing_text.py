"""Names, ranges and forms, as hostile clients send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiapx.core.errors import InvalidRequest, RangeNotSatisfiable
from fiapx.server.processing.multipart import Field, FileStart, FormParser, Item
from fiapx.server.processing.names import attachment, clean_name, disposition_name, stem
from fiapx.server.processing.ranges import if_range, none_match, parse_range


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\clip.mp4", "clip.mp4"),
        ("a\0b\r\nc\x1b[31m.mp4", "abc[31m.mp4"),
        ("\u202egpm.exe", "gpm.exe"),
        ("férias 日本 😀.mp4", "férias 日本 😀.mp4"),
        ("", "video"),
        ("..", "video"),
        ("dir/", "video"),
        (" \t ", "video"),
        ("-i.mp4", "-i.mp4"),
        ("\ud800x", "x"),
    ],
)
def test_cleans_names(sent: str, kept: str) -> None:
    assert clean_name(sent) == kept


@given(st.text(max_size=600))
def test_names_are_always_short_printable_and_no_path(sent: str) -> None:
    name = clean_name(sent)
    assert 1 <= len(name.encode()) <= 255
    assert "/" not in name
    assert "\\" not in name
    assert name not in {".", ".."}
    assert all(character.isprintable() or character.isspace() or ord(character) > 127 for character in name)


def test_download_names_survive_every_browser() -> None:
    assert attachment("a.zip") == "attachment; filename=\"a.zip\"; filename*=UTF-8''a.zip"
    evil = attachment('x";\r\nSet-Cookie: é%.zip')
    assert "\r" not in evil
    assert evil.isascii()
    assert evil.startswith('attachment; filename="x_;__Set-Cookie: __.zip";')
    assert stem("my.clip.mp4") == "my.clip"
    assert stem(".mp4") == ".mp4"


def test_reads_names_from_content_disposition() -> None:
    assert disposition_name(None) is None
    assert disposition_name("attachment") is None
    assert disposition_name('attachment; filename="a b.mp4"') == "a b.mp4"
    assert disposition_name("attachment; filename*=UTF-8''f%C3%A9rias.mp4") == "férias.mp4"
    assert disposition_name('attachment; filename="férias.mp4"'.encode().decode("latin-1")) == "férias.mp4"


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_no_header_is_too_strange(header: str) -> None:
    for value in (
        header,
        f"attachment; filename={header}",
        f"attachment; filename*={header}",
        f"a; filename*0*={header}",
    ):
        name = disposition_name(value)
        assert name is None or clean_name(name)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("BYTES = 5 - 6", (5, 7)),
        ("bytes=0-1,4-5", None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(1000)), None),
        ("frames=1-2", None),
        ("bytes", None),
    ],
)
def test_understands_ranges(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == wanted


@pytest.mark.parametrize(
    "header",
    ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=5-4", "bytes=-", "bytes=", "bytes=a-b", "bytes=--1",
     "bytes=" + "9" * 5000 + "-"],
)  # fmt: skip
def test_refuses_ranges_outside(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 100)


def test_conditions() -> None:
    assert none_match('"x", W/"tag"', '"tag"')
    assert none_match("*", '"tag"')
    assert not none_match('"other"', '"tag"')
    assert not none_match(None, '"tag"')
    assert if_range(None, '"tag"')
    assert if_range('"tag"', '"tag"')
    assert not if_range('W/"tag"', '"tag"')
    assert not if_range("Tue, 24 Nov 2026 00:00:00 GMT", '"tag"')


FORM = (
    b"--BOUND\r\nContent-Disposition: form-data; name=\"fps\"\r\n\r\n2\r\n"
    b"--BOUND\r\nContent-Disposition: form-data; name=\"file\"; filename=\"caf\xc3\xa9.mp4\"\r\n"
    b"Content-Type: video/mp4\r\n\r\nBYTES\r\n--BOUN\r\nMORE\r\n"
    b"--BOUND\r\nContent-Disposition: form-data; name=\"format\"\r\n\r\npng\r\n--BOUND--\r\n"
)  # fmt: skip


def read(body: bytes, piece: int, boundary: str = "BOUND") -> tuple[list[Item], bytes]:
    parser = FormParser(f"multipart/form-data; boundary={boundary}")
    items: list[Item] = []
    for at in range(0, len(body), piece):
        items += parser.feed(body[at : at + piece])
    parser.finish()
    return [item for item in items if not isinstance(item, bytes)], b"".join(i for i in items if isinstance(i, bytes))


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 16, 64, 10_000])
def test_reads_forms_however_they_are_cut(piece: int) -> None:
    items, content = read(FORM, piece)
    assert content == b"BYTES\r\n--BOUN\r\nMORE"
    assert items == [Field("fps", "2"), FileStart("café.mp4", FORM.index(b"BYTES")), Field("format", "png")]


def test_an_empty_file_is_a_file() -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--B--\r\n'
    items, content = read(body, 1000, "B")
    assert [type(item) for item in items] == [FileStart]
    assert content == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        FORM[:-20],
        FORM.replace(b'name="fps"\r\n\r\n2', b'name="fps"\r\n\r\n' + b"2" * 5000),
        b'--BOUND\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 40 + b"--BOUND--\r\n",
        b"--BOUND\r\n" + b"X-Header: 1\r\n" * 20 + b"\r\n\r\n--BOUND--\r\n",
        b"--BOUND\r\nX: " + b"y" * 20_000 + b"\r\n\r\n\r\n--BOUND--\r\n",
        FORM.replace(b'name="file"', b'name="other"'),
    ],
)
def test_refuses_what_is_no_form(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body, 1000)


def test_refuses_a_missing_or_endless_boundary() -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=" + "b" * 1000):
        with pytest.raises(InvalidRequest):
            FormParser(content_type)
