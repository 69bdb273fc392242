"""Run the engine on a file, in memory."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fiapx.core.options import extract_options
from fiapx.media.extract import extract
from fiapx.media.model import Limits, Result, Source


@dataclass(frozen=True)
class Extracted:
    """A finished ZIP, opened."""

    result: Result
    data: bytes

    def manifest(self) -> dict[str, Any]:
        begin = self.result.manifest_offset
        return dict(json.loads(self.data[begin : begin + self.result.manifest_size]))

    def images(self) -> list[bytes]:
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            return [archive.read(name) for name in archive.namelist() if name.startswith("frame_")]

    def pixel_digests(self) -> list[str]:
        """MD5 of each image's RGB pixels."""
        images = (np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in self.images())
        return [hashlib.md5(pixels.tobytes()).hexdigest() for pixels in images]


def run(path: Path, *, limits: Limits | None = None, **options: Any) -> Extracted:
    """Extract with these options."""
    output = io.BytesIO()
    with path.open("rb", buffering=0) as file:
        result = extract(Source(path.name, file), extract_options(**options), output, limits=limits or Limits())
    return Extracted(result, output.getvalue())
