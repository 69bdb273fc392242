"""`fiapx doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

import fiapx
from fiapx.cli import options as flags
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import Exit, FiapxError
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.settings import Settings

_LITTLE_SPACE = 1024**3
_FIXED = {(5, 1): 10, (6, 1): 6, (7, 1): 5, (8, 1): 2}
"""FFmpeg's release lines, and the first patch level of each that has the security fixes known to us."""
_SERVERS = (
    "auth_database_url", "processing_database_url", "notify_database_url", "redis_url", "rabbitmq_url", "storage_url",
    "smtp_host", "auth_urls", "processing_urls", "otlp_url",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One finding. `hint` says what to do where the status is not ok."""

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str
    hint: str | None = None


def doctor(ctx: typer.Context, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """Check this machine: decoders, FFmpeg, sandbox, cores, data folder, server.

    Check as well whatever the settings name: databases, Redis, RabbitMQ, storage,
    mail server, services, collector of traces; within three seconds, side by side. Secrets are not shown.
    Queues that are not there yet are declared, as every role does; storage is tried
    with one small object, which goes again.

    The exit code is 1 if something that is needed is broken.

    Example: fiapx doctor
    """
    from fiapx.cli.config import load_settings

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    settings = load_settings()
    found = list(_run(terminal, settings, server))
    for check in found:
        terminal.say(f"{check.status:<8} {check.name}: {visible(check.detail)}")
        if check.hint:
            terminal.say(f"{'':<8} → {visible(check.hint)}")
    terminal.document({"checks": [asdict(check) for check in found]})
    if any(check.status == "error" for check in found):
        raise typer.Exit(Exit.FAILED)


def _run(terminal: Terminal, settings: Settings, server: str | None) -> Iterable[Check]:
    yield Check("fiapx", "ok", f"{fiapx.__version__}, Python {platform.python_version()}, {platform.platform()}")
    checks: list[tuple[str, Callable[[], Check | None]]] = [
        ("PyAV", _pyav),
        ("FFmpeg", lambda: _ffmpeg(settings.ffmpeg)),
        ("sandbox", _sandbox),
        ("cores", _cores),
        ("data folder", lambda: _folder(settings.home)),
        ("server", lambda: _server(terminal, server)),
    ]
    for name, check in checks:
        try:
            result = check()
        except FiapxError as error:
            result = Check(name, "error", error.message, error.hint)
        if result is not None:
            yield result
    yield from _servers(settings)


def _servers(settings: Settings) -> Iterable[Check]:
    if not settings.model_fields_set & set(_SERVERS):
        return  # and load nothing that talks to them
    from fiapx.bootstrap.diagnosis import diagnose

    for name, finding in diagnose(settings):
        yield Check(name, finding.status, finding.detail, finding.hint)


def _pyav() -> Check:
    try:
        import av
    except ImportError as error:
        return Check(
            "PyAV", "error", f"cannot be loaded: {error}", "Install it again: pip install --force-reinstall av"
        )
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return Check("PyAV", "ok", f"{av.__version__} with libavcodec {codec}")


def _ffmpeg(named: Path | None) -> Check:
    from fiapx.media.ffmpeg import find_ffmpeg

    found = find_ffmpeg(named)
    detail = f"{found.version} at {found.path}"
    if has_known_fixes(found.version) is False:
        fixed = ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in _FIXED.items())
        return Check(
            "FFmpeg", "warning", detail, f"Fixes for known holes came with {fixed}; a distribution may have them too."
        )
    return Check("FFmpeg", "ok", detail)


def has_known_fixes(version: str) -> bool | None:
    """Whether a version of FFmpeg is new enough; None if its text does not tell (a development snapshot)."""
    match = re.match(r"n?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        return None
    line, patch = (int(match[1]), int(match[2])), int(match[3] or 0)
    return patch >= _FIXED[line] if line in _FIXED else line > max(_FIXED)


def _sandbox() -> Check:
    from fiapx.media.sandbox import level

    found = level()
    if "landlock" in found and "no landlock" not in found.lower():
        return Check("sandbox", "ok", found)
    return Check("sandbox", "warning", found, "Decode only videos that you trust, or run on Linux 5.13 or newer.")


def _cores() -> Check:
    from fiapx.core.cores import granted_cores

    return Check("cores", "ok", f"{granted_cores()} of {os.cpu_count()} granted (affinity, CPU quota)")


def _folder(home: Path) -> Check:
    existing = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{home}, {size(free)} free"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("data folder", "error", f"{home} cannot be written", "Name another one in FIAPX_HOME.")
    if free < _LITTLE_SPACE:
        return Check("data folder", "warning", detail, "Make room, or name another folder in FIAPX_HOME.")
    return Check("data folder", "ok", detail)


def _server(terminal: Terminal, server: str | None) -> Check | None:
    """None where nobody has named a server: the local commands need none."""
    from fiapx.cli.api import Api
    from fiapx.cli.profile import ProfileStore

    profile = ProfileStore.find(terminal.environ).load()
    if not (server or terminal.environ.get("FIAPX_SERVER") or profile.server):
        return None
    with Api.open(server, terminal.environ) as api:
        api.get("/health/live", anonymous=True)
        if not api.logged_in():
            return Check("server", "ok", f"{api.server} answers; not logged in")
        account = api.get("/auth/me")
        return Check("server", "ok", f"{api.server}, logged in as {account['email']}")
