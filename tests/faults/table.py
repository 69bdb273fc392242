"""What may break, what is to be seen then, and what the tests marked ``fault`` saw: the table of `make faults`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

_PROPERTY: Final = "fault"

EXPECTED: Final = {
    1: "no row; a partial upload goes on, or is collected",
    2: "no 2xx; the object without a row is swept",
    3: "the outbox publishes within 5 s of the restart",
    4: "a message twice, one run",
    5: "reclaimed within lease and reaper's interval; one ZIP",
    6: "the attempt fails, the job is tried again",
    7: "the zombie's completion matches nothing; its ZIP never shows",
    8: "run again; the object without a row is swept",
    9: "failed (crash_loop) after three failures; a released attempt is not charged",
    10: "finishes, or gives back within the grace time, uncharged",
    11: "gives back now",
    12: "new requests 503, prompt exit, the upload ends or leaves nothing",
    13: "uploads still 201; the queue drains afterwards",
    14: "publishing is given up within 10 s; the API is not affected",
    15: "nothing hangs",
    16: "what is returned stays in the outbox; the queue is declared again",
    17: "no second run",
    18: "one run; garbage becomes a dead letter",
    19: "transactions are tried again",
    20: "uploads 503 with Retry-After; live 200, ready 503; no decoder outlives its lease",
    21: "the client's retry with its Idempotency-Key finds one job",
    22: "the cache is passed by, limits hold in each process; no 500",
    23: "revoked tokens stay revoked",
    24: "waits and tries again; a partial object never shows",
    25: "jobs go on; tried again with the same Message-ID, or logged as failed",
    26: "failed (no_space) or tried again; other jobs go on",
    27: "507 or 503, no row",
    28: "leases are right: the database's clock counts",
    29: "one terminal state, 409 for the loser, the decoder gone within 2 s",
    30: "`fiapx verify` passes on the copy",
}


class Observed:
    """What one test saw. It passed: without words of its own, its name says what."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"text": "", "seconds": None}

    def says(self, text: str) -> None:
        self.told["text"] = text

    @contextmanager
    def recovery(self, within: float = math.inf) -> Iterator[None]:
        """From the end of the fault until all is well again, which takes `within` seconds at most; the longest of
        several is told."""
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        self.told["seconds"] = max(seconds, self.told["seconds"] or 0)
        assert seconds <= within, f"it took {seconds:.1f} s"


@pytest.fixture
def observed(request: pytest.FixtureRequest) -> Observed:
    """Takes what a test marked ``fault`` has to tell."""
    observed = Observed()
    request.node.user_properties.append((_PROPERTY, observed.told))
    return observed


@dataclass(frozen=True)
class Line:
    """Of the table: one row of the faults as one test shows it; `outcome` is passed, failed or skipped."""

    row: int
    injected: str
    outcome: str
    text: str
    seconds: float | None

    def __str__(self) -> str:
        text = self.text if self.outcome == "passed" else f"{self.outcome.upper()}: {self.text}"
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        return f"| {self.row} | {self.injected} | {EXPECTED[self.row]} | {text} | {seconds} |"


def _mark(items: list[pytest.Item]) -> None:
    """Give the marks to the reports, which are all that comes back from another process."""
    for item in items:
        marks = [mark.args for mark in item.iter_markers("fault")]
        item.user_properties += [("fault_row", (row, injected)) for row, injected in marks]


def _lines(stats: dict[str, list[Any]]) -> list[Line]:
    """What the reports say, by row; a row that no test has shown is among them as not shown."""
    found = [
        line
        for outcome in ("passed", "skipped", "failed", "error")
        for report in stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
        for line in _told(report)
    ]
    shown = {line.row for line in found}
    found += [Line(row, "", "not shown", "no test", None) for row in EXPECTED if row not in shown]
    longest: dict[tuple[int, str, str], Line] = {}  # of a test's parameters
    for line in sorted(found, key=lambda line: line.seconds or 0):
        longest[line.row, line.injected, line.outcome] = line
    return sorted(longest.values(), key=lambda line: (line.row, line.injected))


def _told(report: pytest.TestReport) -> Iterator[Line]:
    told: dict[str, Any] = {}
    for name, value in report.user_properties:
        if name == _PROPERTY and isinstance(value, dict):
            told = value
    text = told.get("text") or _sentence(report.nodeid)
    for name, value in report.user_properties:
        if name == "fault_row" and isinstance(value, tuple | list):
            yield Line(int(value[0]), str(value[1]), report.outcome, text, told.get("seconds"))


def _sentence(nodeid: str) -> str:
    """A test's name, in words."""
    return nodeid.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")


def _write(terminal: Callable[[str], object], table: list[Line]) -> None:
    """As Markdown."""
    terminal("| # | Injected | Expected | Observed | Recovery, s |")
    terminal("|---|---|---|---|---|")
    for line in table:
        terminal(str(line))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="run what is marked fault, and show it as a table")
    parser.addoption("--lengthy", action="store_true", help="run what is marked lengthy as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _mark(items)
    faults, lengthy = config.getoption("--faults"), config.getoption("--lengthy")
    unwanted = [item for item in items if not _is_wanted(item, faults=faults, lengthy=lengthy)]
    if unwanted:
        items[:] = [item for item in items if item not in unwanted]
        config.hook.pytest_deselected(items=unwanted)


def _is_wanted(item: pytest.Item, *, faults: bool, lengthy: bool) -> bool:
    if faults:
        return bool(item.get_closest_marker("fault"))
    return lengthy or not item.get_closest_marker("lengthy")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> object:
    """A fault that no test shows is a failure of `make faults`."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    table = _lines(reporter.stats) if reporter and session.config.getoption("--faults") else []
    if session.exitstatus == pytest.ExitCode.OK and any(line.outcome != "passed" for line in table):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--faults"):
        terminalreporter.section("faults")
        _write(terminalreporter.write_line, _lines(terminalreporter.stats))
