"""What can be wrong with the books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal["missing", "damaged", "orphan", "stuck", "unended", "unpublished"]
"""`missing`, `damaged`: an object of a row, or the bytes of an upload. `orphan`: an object, or bytes, of no row.
`stuck`: a running job whose lease ended long ago, or an upload that is no video long after its last byte. `unended`: an
ended job without exactly one event that says so. `unpublished`: an event that waits."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as the books say; `subject` is such as ``job <id>``, or a storage key."""

    kind: FaultKind
    subject: str
    text: str
