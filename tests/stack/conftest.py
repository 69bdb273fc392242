"""One stack of processes, two of each role, for all tests here; what a test breaks, it mends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.stack import Stack, running
from tests.collector import Collector, collecting
from tests.media.clips import X264, Clip
from tests.servers import required
from tests.stack.kit import Logs, Mailbox, MailServer, User, verified, wait_until_ready

SETTINGS = {
    "FIAPX_BCRYPT_ROUNDS": "4",
    "FIAPX_LEASE": "6",
    "FIAPX_HEARTBEAT": "2",
    "FIAPX_REAPER_INTERVAL": "1",
    "FIAPX_SWEEP_INTERVAL": "2",
    "FIAPX_SWEEP_AGE": "10",
    "FIAPX_UPSTREAM_TIMEOUT": "3",
    "FIAPX_GRACE": "5",
    "FIAPX_PART": "20",
    "FIAPX_USER_RATE": "100000/minute",
    "FIAPX_ADDRESS_RATE": "100000/minute",
    "FIAPX_REGISTER_RATE": "1000/minute",
    "OTEL_BSP_SCHEDULE_DELAY": "300",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("stack"))  # one stack is enough for two processors
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def logs() -> Logs:
    return Logs()


@pytest.fixture(scope="package")
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture(scope="package")
def mail_server(mailbox: Mailbox) -> Iterator[MailServer]:
    server = MailServer(mailbox)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def smtp(mail_server: MailServer) -> dict[str, str]:
    """The settings that lead to a mail server."""
    return {"FIAPX_SMTP_HOST": "127.0.0.1", "FIAPX_SMTP_PORT": str(mail_server.port), "FIAPX_SMTP_TLS": "none"}


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def whole(
    tmp_path_factory: pytest.TempPathFactory, logs: Logs, smtp: dict[str, str], collector: Collector
) -> Iterator[Stack]:
    settings = SETTINGS | smtp | {"FIAPX_OTLP_URL": collector.url}
    with required(), running(tmp_path_factory.mktemp("stack"), logs.add, each=2, settings=settings) as stack:
        yield stack
        verified(stack)


@pytest.fixture
def stack(whole: Stack) -> Stack:
    """All is well before each test."""
    wait_until_ready(whole)
    return whole


@pytest.fixture
def books(stack: Stack) -> Iterator[None]:
    """They are right after the test."""
    yield
    verified(stack)


@pytest.fixture
def ana(stack: Stack) -> Iterator[User]:
    with User.registered(stack.url) as user:
        yield user


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds."""
    return Clip("clip.mp4", (*X264, "-g", "25")).make(tmp_path_factory.mktemp("clips"))
