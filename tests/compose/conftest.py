"""One set of processes for all tests here; what a test stops, it starts again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compose.running import Composed, running
from tests.servers import required
from tests.stack.kit import Logs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("compose"))


@pytest.fixture(scope="package")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    with ExitStack() as stack:
        with required():
            composed = stack.enter_context(running(tmp_path_factory.mktemp("compose"), Logs().add))
        yield composed
