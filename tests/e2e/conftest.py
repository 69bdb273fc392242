"""Shared by the tests of the installed command: clips, and one server for those that leave it as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Account, Server
from tests.media.clips import X264, Clip, ffmpeg

FRAMES = 600
NUMBERED = Clip("numbered.mp4", (*X264, "-g", "25"), frames=FRAMES)
"""24 seconds of numbered frames: as PNG at 25 a second, a job of about a second with many steps."""
LONG = 75 * FRAMES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not sys.platform.startswith("linux"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="these tests look into /proc"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where clips are made, each once a session."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def numbered(clips: Path) -> Path:
    """`FRAMES` numbered frames."""
    return NUMBERED.make(clips)


@pytest.fixture(scope="session")
def clip(clips: Path) -> Path:
    """Three seconds."""
    return Clip("clip.mp4", (*X264, "-g", "25")).make(clips)


@pytest.fixture(scope="session")
def long(clips: Path, numbered: Path) -> Path:
    """`LONG` frames in half an hour, which no test waits for."""
    path = clips / "long.mp4"
    ffmpeg("-stream_loop", str(LONG // FRAMES - 1), "-i", str(numbered), "-c", "copy", str(path))
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test stops."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def ana(server: Server) -> Account:
    """A fresh account."""
    return server.account()
