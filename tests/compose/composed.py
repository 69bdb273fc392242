"""The Compose file as Docker Compose reads it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "compose"

ROLES: Final = ("gateway", "auth", "processing", "worker", "notify")
"""The services that a user's work goes through; each is one command of the image."""

_VARIABLE: Final = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")

Document = dict[str, Any]


def read_yaml(path: Path) -> Document:
    """With anchors and merge keys resolved."""
    document: Document = YAML(typ="safe").load(path)
    return document


def compose(**variables: str) -> Document:
    """compose.yaml with its variables filled in, without the fragments that it is built from."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: fill(item) for name, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        if not isinstance(value, str):
            return value
        return _VARIABLE.sub(lambda found: variables.get(found["name"]) or found["default"] or "", value)

    document = read_yaml(COMPOSE / "compose.yaml")
    return {name: fill(value) for name, value in document.items() if not name.startswith("x-")}


def built(document: Document) -> dict[str, Document]:
    """The services that run our image."""
    return {name: service for name, service in document["services"].items() if "build" in service}
