"""Examines everything that the settings name, side by side."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import chain
from threading import Thread
from typing import Final
from urllib.parse import unquote

import httpx
from pydantic import SecretStr

from fiapx.adapters.db import SERVICES
from fiapx.adapters.examine import examine_database, examine_rabbit, examine_redis, examine_service
from fiapx.bootstrap.parts import make_smtp_mailer
from fiapx.bootstrap.servers import TOPOLOGY, Servers
from fiapx.core.errors import FiapxError, Unavailable
from fiapx.core.findings import Finding
from fiapx.core.ports import Storage
from fiapx.core.text import size
from fiapx.settings import GIB, HIDDEN, PASSWORD, Settings

_DEADLINE: Final = 3.0
"""Seconds that all together may take."""
_STEP: Final = 1.0

Examination = Callable[[], Finding]


def diagnose(settings: Settings) -> Iterator[tuple[str, Finding]]:
    """(what, finding) of every server that has a setting; nothing for `fiapx up`, which needs none."""
    started = time.monotonic()
    running = {name: _begun(examination) for name, examination in _examinations(settings).items()}
    hide = _hider(settings)
    for name, future in running.items():
        try:
            finding = future.result(max(0, started + _DEADLINE - time.monotonic()))
        except TimeoutError:
            finding = Finding(
                "error", f"no answer within {_DEADLINE:g} seconds", "Is the address right, and reachable?"
            )
        yield name, Finding(finding.status, hide(finding.detail), finding.hint and hide(finding.hint))


def _examinations(settings: Settings) -> dict[str, Examination]:
    found: dict[str, Examination] = {}
    urls = {service: getattr(settings, f"{service}_database_url") for service in SERVICES}
    for service, url in urls.items():
        if url is not None:
            found[f"{service} database"] = partial(examine_database, url.get_secret_value(), service)
    distributed = bool(found)
    if settings.processing_read_url is not None:
        replica = settings.processing_read_url.get_secret_value()
        found["processing replica"] = partial(examine_database, replica, "processing")
    if settings.auth_database_url is not None:
        found["secret key"] = partial(_secret_key, settings)
    if settings.redis_url is not None:
        found["Redis"] = partial(examine_redis, settings.redis_url.get_secret_value())
    elif distributed or settings.auth_urls:
        found["Redis"] = partial(_missing, "FIAPX_REDIS_URL", "All roles share what they remember there.")
    if settings.rabbitmq_url is not None:
        found["RabbitMQ"] = partial(examine_rabbit, settings.rabbitmq_url.get_secret_value(), TOPOLOGY)
    elif distributed:
        found["RabbitMQ"] = partial(_missing, "FIAPX_RABBITMQ_URL", "Events and wake-ups go through it.")
    if settings.storage_url is not None or settings.processing_database_url is not None:
        found["storage"] = partial(_storage, settings)
    if settings.smtp_host is not None:
        found["mail"] = partial(_mail, settings)
    for name, addresses in (("auth", settings.auth_urls), ("processing", settings.processing_urls)):
        found |= {f"{name} at {_shown(url)}": partial(examine_service, url) for url in addresses}
    if settings.otlp_url is not None:
        found["traces"] = partial(_collector, settings.otlp_url)
    return found


def _begun(examination: Examination) -> Future[Finding]:
    """On a thread that nobody waits for longer than the deadline."""
    future: Future[Finding] = Future()

    def run() -> None:
        try:
            future.set_result(examination())
        except FiapxError as error:
            hint = error.hint or "Is it running there, and are address and login right?"
            future.set_result(Finding("error", error.message, hint))
        except Exception as error:  # noqa: BLE001 - whatever it is, it does not work
            future.set_result(Finding("error", f"cannot be used: {error}", "Is the setting right?"))

    Thread(target=run, daemon=True).start()
    return future


def _missing(name: str, why: str) -> Finding:
    return Finding("error", f"{name} is not set", why)


def _secret_key(settings: Settings) -> Finding:
    if settings.secret_key is None:
        return _missing("FIAPX_SECRET_KEY", "All instances of auth need the same one.")
    return Finding("ok", "given")


def _storage(settings: Settings) -> Finding:
    """Write, read and delete an object."""
    url = settings.storage_url or str(settings.home / "storage")
    with Servers(settings.model_copy(update={"s3_timeout": _STEP})) as servers:
        if not _keeps(servers.storage):
            return Finding("error", f"{url} gives back something else than was written", "Do not use it.")
    if url.startswith("s3://"):
        return Finding("ok", f"{url} takes, gives and deletes objects")
    free = shutil.disk_usage(url.removeprefix("file://")).free
    if free < GIB:
        return Finding("warning", f"{url}, {size(free)} free", "Make room.")
    return Finding("ok", f"{url}, {size(free)} free")


def _keeps(storage: Storage) -> bool:
    storage.check()
    key, content = f"doctor/{uuid.uuid4()}", uuid.uuid4().bytes
    with storage.create(key) as writer:
        writer.write(content)
        writer.commit()
    try:
        return b"".join(storage.read(key)) == content
    finally:
        storage.delete(key)


def _mail(settings: Settings) -> Finding:
    """Connect and log in, without a mail."""
    make_smtp_mailer(settings.model_copy(update={"smtp_timeout": _STEP})).check()
    how = f"{settings.smtp_tls}, {'logged in' if settings.smtp_user else 'without a log-in'}"
    return Finding("ok", f"{settings.smtp_host}:{settings.smtp_port} takes connections ({how})")


def _collector(url: str) -> Finding:
    """Send no spans at all, as OTLP allows."""
    address = f"{url.rstrip('/')}/v1/traces"
    kind = {"Content-Type": "application/x-protobuf"}
    try:
        answer = httpx.post(address, content=b"", headers=kind, timeout=_STEP, trust_env=False)
    except httpx.HTTPError as error:
        raise Unavailable(f"The collector does not answer: {error}") from None
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):  # headers of the roles are not ours
        hint = "Give every role its login in OTEL_EXPORTER_OTLP_HEADERS."
        return Finding("warning", f"{_shown(url)} wants a login ({answer.status_code})", hint)
    if not answer.is_success:
        return Finding("error", f"{_shown(url)} takes no traces ({answer.status_code})", "Is it OTLP's HTTP port?")
    return Finding("ok", f"{_shown(url)} takes traces")


def _shown(url: str) -> str:
    """Without a login."""
    return url.rpartition("@")[2].removeprefix("http://")


def _hider(settings: Settings) -> Callable[[str], str]:
    """Servers and drivers quote what they were told: no secret of ours is shown whoever says it."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    secrets = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
    lists = (value for value in values if isinstance(value, tuple))
    texts = [*secrets, *(value for value in values if isinstance(value, str)), *(map(str, chain(*lists)))]
    passwords = {match[2] for match in map(PASSWORD.search, texts) if match}
    hidden = sorted(filter(None, {*secrets, *passwords, *map(unquote, passwords)}), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, HIDDEN)
        return text

    return hide
