"""The command `fiapx`, also as ``python -m fiapx``."""

from __future__ import annotations

import sys

from fiapx.media import spare


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:2] == ["extract"]:
        spare.start_early()  # the rest of the command takes as long to load as a decoder does
    from fiapx.cli.main import app

    return app()


if __name__ == "__main__":
    sys.exit(main())
