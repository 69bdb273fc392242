"""multipart/form-data in bounded memory: fields are collected, the file's bytes are passed on as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fiapx.core.errors import InvalidRequest

_MAX_FIELD: Final = 4096
_MAX_PARTS: Final = 32
_FILE_FIELDS: Final = frozenset({"file", "video"})


@dataclass(frozen=True)
class Field:
    """A complete field that is not the file."""

    name: str
    value: str


@dataclass(frozen=True)
class FileStart:
    """The file begins: its bytes follow. `offset` counts the body's bytes before it."""

    filename: str
    offset: int


Item = Field | FileStart | bytes


class FormParser:
    """Feed it the body; it returns what became known. Raises InvalidRequest for what is no form."""

    def __init__(self, content_type: str) -> None:
        _, parameters = parse_options_header(content_type)
        self._boundary = parameters.get(b"boundary", b"")
        if not self._boundary:
            raise InvalidRequest("multipart: the boundary is missing")
        try:
            self._parser = MultipartParser(
                self._boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._form_end,
                },
                max_header_count=8,
                max_header_size=8192,
            )
        except FormParserError:
            raise InvalidRequest("multipart: the boundary is too long") from None
        self._items: list[Item] = []
        self._parts = 0
        self._consumed = 0
        self._ended = False
        self._part_begin()

    @property
    def tail(self) -> int:
        """Bytes that follow a file that is the last part."""
        return len(b"\r\n--") + len(self._boundary) + len(b"--\r\n")

    def feed(self, chunk: bytes) -> list[Item]:
        """What this piece of the body holds, in order."""
        self._items = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest("multipart: the body is not a form") from error
        self._consumed += len(chunk)
        return self._items

    def finish(self) -> None:
        """The body is over. Raises InvalidRequest if the form is not."""
        if not self._ended:
            raise InvalidRequest("multipart: the form is incomplete")

    def _part_begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._filename: str | None = None
        self._value = bytearray()
        self._file_open = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest("multipart: too many parts")
        _, parameters = parse_options_header(self._headers.get("content-disposition"))
        self._name = parameters.get(b"name", b"").decode(errors="replace")
        if self._name in _FILE_FIELDS:
            self._filename = parameters.get(b"filename", b"").decode(errors="replace")
        elif b"filename" in parameters:
            raise InvalidRequest("multipart: the file's field must be named file")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._filename is not None:
            self._start_file(self._filename, start)
            self._items.append(data[start:end])
            return
        self._value.extend(data[start:end])
        if len(self._value) > _MAX_FIELD:
            raise InvalidRequest(f"{self._name[:64]}: too long")

    def _start_file(self, filename: str, at: int) -> None:
        if not self._file_open:
            self._file_open = True
            self._items.append(FileStart(filename, self._consumed + at))

    def _part_end(self) -> None:
        if self._filename is not None:
            self._start_file(self._filename, 0)  # without a byte
        else:
            self._items.append(Field(self._name, self._value.decode(errors="replace").strip()))

    def _form_end(self) -> None:
        self._ended = True
