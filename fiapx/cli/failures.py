"""What the operating system says about writing, in our words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fiapx.core.errors import NoSpace, UsageError


class ReaderGone(Exception):
    """The program that reads our standard output has left. That is nobody's mistake, and needs no message."""


@contextmanager
def writing(target: Path | str) -> Iterator[None]:
    """Raises NoSpace for a full disk, ReaderGone, and UsageError for a place that cannot be written."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        message = f"cannot write {str(target)!r}: {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(message) from error
        raise UsageError(message) from error
