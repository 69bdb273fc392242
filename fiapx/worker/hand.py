"""What a worker's thread keeps at hand between one piece of work and the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import BinaryIO

from fiapx.core.ports import Storage
from fiapx.media.spare import Spare


class Hand:
    """Belongs to one thread, with which its decoder child dies. To be closed."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._key = ""
        self._file: BinaryIO | None = None
        self._spare: Spare | None = None

    def video(self, key: str) -> BinaryIO:
        """The video, which stays open for the next part of the same job: a bucket would give it anew each time.
        Raises NotFound."""
        if self._file is None or key != self._key:
            self._put_down()
            self._key, self._file = key, self._storage.open(key)
        return self._file

    @contextmanager
    def spare(self) -> Iterator[Spare | None]:
        """A decoder child that has started already, if there is one; it is gone at the end of the block."""
        spare, self._spare = self._spare, None
        with spare or nullcontext():
            yield spare

    def rest(self) -> None:
        """There is no work: let go of the video, and have a decoder child ready, whose start takes longer than a
        short video."""
        self._put_down()
        if self._spare is None:
            with suppress(OSError):  # whoever needs one will tell why there is none
                self._spare = Spare()

    def close(self) -> None:
        self._put_down()
        with self.spare():
            pass

    def _put_down(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
