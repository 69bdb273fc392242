"""Which engine: the same source, options and fingerprint give the same bytes."""

from __future__ import annotations

import hashlib
import json

from fiapx.media.manifest import versions


def fingerprint(ffmpeg_version: str | None = None) -> str:
    """16 hex digits that change with the version of anything that can change a byte of a result.

    `ffmpeg_version` is that of FFmpeg's command line where it may have a part.
    """
    return hashlib.sha256(json.dumps(versions(ffmpeg_version), sort_keys=True).encode()).hexdigest()[:16]
