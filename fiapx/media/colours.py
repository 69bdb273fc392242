"""The numbers that a video stream carries for its colours (ITU-T H.273), by FFmpeg's names."""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "unknown"
PRIMARIES: Final = {
    1: "bt709",
    **dict(enumerate(("bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020"), 4)),
    **dict(enumerate(("smpte428", "smpte431", "smpte432"), 10)),
}
TRANSFERS: Final = {
    1: "bt709",
    **dict(enumerate(("gamma22", "gamma28", "smpte170m", "smpte240m", "linear", "log100", "log316"), 4)),
    **dict(enumerate(("iec61966-2-4", "bt1361e", "iec61966-2-1", "bt2020-10", "bt2020-12", "smpte2084"), 11)),
    17: "smpte428",
    18: "arib-std-b67",
}
PQ_TRANSFER: Final = 16
HLG_TRANSFER: Final = 18
HDR: Final = {TRANSFERS[PQ_TRANSFER]: "PQ", TRANSFERS[HLG_TRANSFER]: "HLG"}
"""What the transfer characteristics of high dynamic range are called."""
BT2020_PRIMARIES: Final = 9
