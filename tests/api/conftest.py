"""A processing service of its own for each test, on a server that all share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processing_kit import Host, Processing, hosting, processing


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    with hosting() as host:
        yield host


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Processing]:
    with processing(tmp_path) as service:
        yield service


@pytest.fixture
def url(service: Processing, host: Host) -> Iterator[str]:
    with host.serve(service.app) as url:
        yield url
        service.draining.set()


@pytest.fixture
def client(service: Processing, url: str) -> Iterator[httpx.Client]:
    with service.client(url) as client:
        yield client
