"""Opening what the user names."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from fiapx.core.errors import InputNotFound


class VideoFile(io.FileIO):
    """A regular file, unbuffered, without ever waiting for a FIFO. Raises InputNotFound in words for people."""

    def __init__(self, path: Path) -> None:
        super().__init__(_descriptor(path), "rb")


def _descriptor(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in the name
        raise InputNotFound("the file cannot be read: its name is not one") from None
    except OSError as error:
        reason = {errno.ENOENT: "there is no such file", errno.EACCES: "you may not read it"}
        raise InputNotFound(f"the file cannot be read: {reason.get(error.errno or 0, error.strerror)}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
        raise InputNotFound(f"the file cannot be read: {what}")
    return descriptor
