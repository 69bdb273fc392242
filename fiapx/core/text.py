"""Text for people: sizes, and what is of unknown origin made safe to show."""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that a terminal, a mail header or a reader could be fooled with: controls (ESC, CR, LF),
formats (bidirectional overrides, zero-width characters), lone surrogates, and separators of lines."""


def visible(text: str, *, keep: str = "") -> str:
    """`text` with each control, bidirectional or invisible character written as an escape such as ``\\x1b``.

    Characters in `keep` stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or unicodedata.category(char) not in _HIDDEN else _escape(char) for char in text
    )


def size(count: int) -> str:
    """Bytes in decimal units: ``999 B``, ``1.3 MB``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
