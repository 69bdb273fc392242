"""For all tests."""

from __future__ import annotations

import signal

# Fixtures of the whole session: a module that imported one would get a server of its own.
pytest_plugins = ("tests.faults.table", "tests.postgres", "tests.rabbit", "tests.redis_server", "tests.s3")

# A shell that starts the tests in the background has them ignore SIGINT, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
