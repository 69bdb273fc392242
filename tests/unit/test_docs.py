"""The documentation keeps up with the code."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer.main
from fastapi import FastAPI

from fiapx.bootstrap import embedded
from fiapx.cli.main import commands
from fiapx.core.errors import FiapxError
from fiapx.core.options import ExtractOptions
from fiapx.media.formats import DECODERS, FORMATS
from fiapx.media.manifest import DroppedRecord, FrameRecord
from fiapx.media.sheet import SheetRecord
from fiapx.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
OPERATIONS = (DOCS / "operations.md").read_text()
API = (DOCS / "api.md").read_text()

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| (`FIAPX_.+?) \| (.+?) \|", OPERATIONS, re.MULTILINE))
    documented = {name: default for names, default in rows.items() for name in re.findall(r"`FIAPX_(\w+)`", names)}
    for name, field in Settings.model_fields.items():
        assert name.upper() in documented
        if isinstance(field.default, int | float) or (isinstance(field.default, str) and field.default):
            assert f"`{field.default}`" in documented[name.upper()], name


def test_every_error_is_documented_with_its_status_and_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", API, re.MULTILINE)
    documented = {code: (int(status), int(exit_code)) for code, status, exit_code in rows}
    assert documented == {cls.code: (cls.status, int(cls.exit_code)) for cls in _public(FiapxError)}


def _public(cls: type[FiapxError]) -> Iterator[type[FiapxError]]:
    """The tree in core; a client's own errors are no part of it."""
    if cls.__module__ == FiapxError.__module__:
        yield cls
        for child in cls.__subclasses__():
            yield from _public(child)


@pytest.mark.parametrize("readme", ["README.md", "README.pt-BR.md"])
def test_every_command_is_named(readme: str) -> None:
    text = (ROOT / readme).read_text()
    names = typer.main.get_command(commands).commands  # type: ignore[attr-defined]  # a group
    assert len(names) > 10
    assert [name for name in names if f"fiapx {name}" not in text and f"`{name}`" not in text] == []


def test_every_route_is_documented(tmp_path: Path) -> None:
    with embedded(Settings(home=tmp_path, bcrypt_rounds=4), "http://127.0.0.1") as server:
        paths = server.app.openapi()["paths"]
    routes = {f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods}
    assert len(routes) > 20
    assert {route for route in routes if route not in API} == set()
    headings = set(re.findall(r"^### (`\w+ /.+`)$", API, re.MULTILINE))
    assert headings <= routes


def test_every_option_is_documented() -> None:
    for name in ExtractOptions.model_fields:
        assert re.search(rf"^\| .*`{name}`.* \|", API, re.MULTILINE), name


def test_every_field_of_the_manifest_is_documented() -> None:
    text = (DOCS / "manifest.md").read_text()
    for record in (FrameRecord, DroppedRecord, SheetRecord):
        assert [name for name in record.__dataclass_fields__ if f"`{name}`" not in text] == []
    assert ",".join(FrameRecord.__dataclass_fields__) in text


def test_the_whitelists_are_documented() -> None:
    text = (DOCS / "security.md").read_text()
    words = set(re.findall(r"[\w-]+", text))
    assert words.issuperset(FORMATS.split(","))
    assert words.issuperset(DECODERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in {_slug(heading) for heading in _headings(target)}, link


def _headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)


def _slug(heading: str) -> str:
    """A heading's anchor, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_both_readmes_have_the_same_parts() -> None:
    english, portuguese = (ROOT / "README.md").read_text(), (ROOT / "README.pt-BR.md").read_text()
    levels = [re.findall(r"^(#+) ", _FENCE.sub("", text), re.MULTILINE) for text in (english, portuguese)]
    assert levels[0] == levels[1]
    fences = [[(kind, body) for kind, body in _FENCE.findall(text)] for text in (english, portuguese)]
    assert fences[0][1:] == fences[1][1:]  # the first one has comments to translate
    settings = [re.findall(r"`(FIAPX_\w+)`", text) for text in (english, portuguese)]
    assert sorted(settings[0]) == sorted(settings[1])


def test_requirements_name_tests_that_are_there() -> None:
    references = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "requirements.md").read_text())
    assert len(references) > 50
    for file, name in references:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


@pytest.mark.fault(30, "the backup of this page, restored elsewhere")
def test_the_backup_of_the_operations_page_can_be_restored(tmp_path: Path) -> None:
    script = next(body for kind, body in _FENCE.findall(OPERATIONS.partition("## Backup")[2]) if kind == "sh")
    account = {"email": "ana@example.com", "password": "correct horse 9 battery"}
    with embedded(Settings(home=tmp_path / "live", bcrypt_rounds=4), "http://127.0.0.1") as server:
        asyncio.run(_post(server.app, "/api/v1/auth/register", 201, json=account))
        subprocess.run(["sh", "-c", script, "backup", tmp_path / "live", tmp_path / "copy"], check=True)
    with embedded(Settings(home=tmp_path / "copy", bcrypt_rounds=4), "http://127.0.0.1") as server:
        form = {"username": account["email"], "password": account["password"]}
        asyncio.run(_post(server.app, "/api/v1/auth/token", 200, data=form))
    environ = os.environ | {"FIAPX_HOME": str(tmp_path / "copy")}
    subprocess.run([Path(sys.executable).with_name("fiapx"), "verify"], env=environ, check=True, stdout=subprocess.PIPE)


async def _post(app: FastAPI, path: str, expected: int, **body: dict[str, str]) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.post(path, **body)  # type: ignore[arg-type]  # json or data
    assert answer.status_code == expected, answer.text
