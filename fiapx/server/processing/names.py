"""Names of files as users send them: shown and stored, never used as a path."""

from __future__ import annotations

import re
import unicodedata
from email.message import Message
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

MAX_BYTES: Final = 255
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean_name(name: str) -> str:
    """The last part of a path without control, format and bidirectional characters, at most 255 bytes of UTF-8."""
    last = re.split(r"[/\\]", name)[-1]
    text = "".join(character for character in last if unicodedata.category(character) not in _UNPRINTABLE)
    text = text.encode()[:MAX_BYTES].decode(errors="ignore").strip()
    return text if text.strip(".") else "video"


def disposition_name(header: str | None) -> str | None:
    """The file name in a Content-Disposition header, by RFC 6266."""
    if not header:
        return None
    message = Message()
    message["Content-Disposition"] = re.sub(r"[\r\n]", " ", _utf8(header))
    return message.get_filename()


def attachment(name: str) -> str:
    """A Content-Disposition that every browser understands: plain ASCII, and the real name by RFC 5987."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def stem(name: str) -> str:
    """The name without its last extension."""
    return PurePosixPath(name).stem or "video"


def _utf8(header: str) -> str:
    """Servers decode headers as Latin-1; most clients mean UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
