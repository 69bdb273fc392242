"""Several inputs in one command: each is tried, and the exit code says whether all, some or none went well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from fiapx.cli.terminal import Terminal, error_document
from fiapx.core.errors import Cancelled, Exit, FiapxError


class Batch:
    """Collects one result an input, in order: ``{key: input, …}``, with ``"error": {…}`` where it failed."""

    def __init__(self, terminal: Terminal, key: str = "input") -> None:
        self._terminal = terminal
        self._key = key
        self._results: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, FiapxError] = {}

    @property
    def items(self) -> list[str]:
        """What was attempted so far."""
        return list(self._results)

    def attempt(self, item: str, work: Callable[[dict[str, Any]], None]) -> None:
        """Let `work` add to the item's result, or note its error. An item that has failed is not tried again."""
        result = self._results.setdefault(item, {self._key: item})
        if item in self._errors:
            return
        try:
            work(result)
        except FiapxError as error:
            self._errors[item] = error
            result["error"] = error_document(error)
            self._terminal.complain(error, about=item)
            if isinstance(error, Cancelled):  # by the user, who wants no more of this
                self._document()
                raise typer.Exit(Exit.INTERRUPTED) from None

    def finish(self) -> None:
        """Write the JSON document, and leave with the exit code unless all went well."""
        self._document()
        if self._errors:
            raise typer.Exit(self._exit_code())

    def _document(self) -> None:
        self._terminal.document({"results": list(self._results.values())})

    def _exit_code(self) -> Exit:
        if len(self._results) == 1:
            return next(iter(self._errors.values())).exit_code
        if any(error.exit_code == Exit.TIMED_OUT for error in self._errors.values()):
            return Exit.TIMED_OUT
        return Exit.SOME_FAILED if len(self._errors) < len(self._results) else Exit.FAILED
