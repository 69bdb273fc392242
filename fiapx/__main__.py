"""The command `fiapx`, also as ``python -m fiapx``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from fiapx.media import spare


def main() -> NoReturn:
    """Run the command line, and exit with its code."""
    if sys.argv[1:2] == ["extract"]:
        spare.start_early()  # the rest of the command takes as long to load as a decoder does
    from fiapx.cli.main import app

    code = app()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or told already that nobody listens
            stream.flush()
    os._exit(code)  # all is closed by now, and taking a thousand modules apart takes as long as decoding a second


if __name__ == "__main__":
    main()
