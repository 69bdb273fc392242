"""What a worker's thread keeps at hand between one piece of work and the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from fiapx.core.ports import Storage
from fiapx.media.nursery import Nursery
from fiapx.media.spare import Spare


class Hand:
    """Belongs to one thread. To be closed."""

    def __init__(self, storage: Storage, nursery: Nursery) -> None:
        self._storage = storage
        self._nursery = nursery
        self._key = ""
        self._file: BinaryIO | None = None

    def video(self, key: str) -> BinaryIO:
        """The video, which stays open for the next part of the same job: a bucket would give it anew each time.
        Raises NotFound."""
        if self._file is None or key != self._key:
            self.close()
            self._key, self._file = key, self._storage.open(key)
        return self._file

    @contextmanager
    def spare(self) -> Iterator[Spare | None]:
        """A decoder child that starts at once; None where there is none to be had so."""
        try:
            spare = Spare(self._nursery.child)
        except OSError:
            yield None
            return
        with spare:
            yield spare

    def close(self) -> None:
        """Let go of the video."""
        if self._file is not None:
            self._file.close()
            self._file = None
