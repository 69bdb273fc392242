"""The source's SHA-256, computed on the side while the decoder works."""

from __future__ import annotations

import hashlib
import os
import threading
from types import TracebackType
from typing import Final, Self

from fiapx.core.errors import FiapxError
from fiapx.media.model import Source
from fiapx.media.process import Watch

_CHUNK: Final = 1 << 20
_POLL: Final = 0.1


class SourceDigest:
    """Reads the source once in a thread of its own, unless its digest is known. Leaving the `with` block stops it."""

    def __init__(self, source: Source) -> None:
        self._descriptor = source.file.fileno()
        self._hex = source.sha256
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._compute, daemon=True)
        self.size = os.fstat(self._descriptor).st_size
        """Bytes."""

    def hex(self, watch: Watch) -> str:
        """Wait for the digest, in hex. Raises FiapxError where the source could not be read or the work must stop."""
        while self._thread.is_alive():
            self._thread.join(_POLL)
            watch.check()
        if self._hex is None:
            raise FiapxError("The source could not be read to its end.")
        return self._hex

    def _compute(self) -> None:
        digest, position = hashlib.sha256(), 0
        try:
            while not self._stop.is_set() and (data := os.pread(self._descriptor, _CHUNK, position)):
                digest.update(data)
                position += len(data)
        except OSError:
            return
        self._hex = digest.hexdigest()

    def __enter__(self) -> Self:
        if self._hex is None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
