"""Text of unknown origin, made safe to show."""

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


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
