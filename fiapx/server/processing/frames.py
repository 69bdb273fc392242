"""Single frames of a result: byte ranges of its ZIP, whose entries are stored as they are."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final, Self

from fiapx.core.errors import NotFound
from fiapx.core.ports import Cache, Storage
from fiapx.server.processing.model import Job

_ENTRY: Final = struct.Struct("!QQ32s")
_TTL: Final = 600.0


@dataclass(frozen=True)
class Frame:
    """One image: `size` bytes of the ZIP from `offset` on, with its hex SHA-256."""

    offset: int
    size: int
    sha256: str


class FrameIndex:
    """Offset, size and hash of every frame, 48 bytes each, so that a frame is found without parsing a manifest."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    @classmethod
    def of(cls, job: Job, storage: Storage, cache: Cache) -> Self:
        """From the cache, or else from the manifest in the ZIP. A result never changes, so neither does this."""
        key = f"frames:{job.result_key}"
        packed = cache.get(key)
        if packed is None:
            packed = _pack(json.loads(read_manifest(job, storage))["frames"])
            cache.set(key, packed, _TTL)
        return cls(packed)

    def __getitem__(self, number: int) -> Frame:
        """Frame `number`, counted from 1. Raises NotFound."""
        if not 1 <= number <= len(self._packed) // _ENTRY.size:
            raise NotFound
        offset, size, digest = _ENTRY.unpack_from(self._packed, (number - 1) * _ENTRY.size)
        return Frame(offset, size, digest.hex())


def read_manifest(job: Job, storage: Storage) -> bytes:
    """The bytes of the manifest of a completed job. Raises NotFound."""
    assert job.result_key is not None
    assert job.manifest_offset is not None
    assert job.manifest_size is not None
    return b"".join(storage.read(job.result_key, job.manifest_offset, job.manifest_offset + job.manifest_size))


def _pack(frames: list[dict[str, Any]]) -> bytes:
    return b"".join(_ENTRY.pack(frame["offset"], frame["bytes"], bytes.fromhex(frame["sha256"])) for frame in frames)
