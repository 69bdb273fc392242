"""Shared by the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where clips are made, each once a session."""
    return tmp_path_factory.mktemp("clips")
