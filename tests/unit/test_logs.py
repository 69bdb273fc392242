"""Logging, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from fiapx.server.logs import configure_logging
configure_logging("{level}", "{format}")
configure_logging("{level}", "{format}")
log = structlog.get_logger("fiapx.test")
with structlog.contextvars.bound_contextvars(request_id="abc"):
    log.info("video_stored", name="a\\x1b[31m\\r\\nfake \\u202egpj.exe", size=3)
logging.getLogger("uvicorn.error").warning("odd \\x1b[31m request")
logging.getLogger("uvicorn.access").warning("never shown")
log.debug("hidden")
try:
    raise ValueError("bad \\x1b]0;title\\x07")
except ValueError:
    log.exception("unexpected_error")
"""


def run(level: str = "INFO", format_: str = "auto") -> str:
    program = PROGRAM.replace("{level}", level).replace("{format}", format_)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_one_json_object_a_line_off_a_terminal() -> None:
    text = run()
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["event"] for event in events] == ["video_stored", "odd \x1b[31m request", "unexpected_error"]
    assert [event["level"] for event in events] == ["info", "warning", "error"]
    first = events[0]
    assert (first["request_id"], first["logger"], first["size"]) == ("abc", "fiapx.test", 3)
    assert first["time"].endswith("Z")
    assert "ValueError" in events[2]["exception"]
    assert text.isascii()
    assert "\x1b" not in text


def test_a_console_gets_no_control_characters_of_others() -> None:
    text = run(format_="console")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "gpj.exe" in text
    assert "Traceback" in text
    assert "never shown" not in text


def test_the_level_is_obeyed() -> None:
    assert "hidden" in run(level="debug")
    assert "video_stored" not in run(level="WARNING")
