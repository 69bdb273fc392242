"""What this process is called, for people."""

from __future__ import annotations

import os
import socket


def instance() -> str:
    """Its host and its number there."""
    return f"{socket.gethostname()}:{os.getpid()}"
