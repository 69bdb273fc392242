"""A stack as its users see it."""

from __future__ import annotations

import email
import email.policy
import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
from aiosmtpd.controller import Controller

from scripts.servers.process import free_port
from scripts.stack import RoleProcess, Stack
from tests.processing_kit import eventually

PASSWORD = "plum-orbit-tractor-91"
API = "/api/v1"
LONG = {"fps": "25", "format": "png", "width": "1920", "upscale": "true"}
"""What makes a job of seconds."""


class Logs:
    """What the roles say, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def add(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def events(self, role: str, event: str) -> list[dict[str, Any]]:
        """The events of this name that instances of a role have told."""
        found = []
        for name, line in list(self.lines):
            if name.startswith(role) and line.startswith("{"):
                told = json.loads(line)
                if told.get("event") == event:
                    found.append(told)
        return found


class Mailbox:
    """The handler of a real SMTP server that takes everything."""

    def __init__(self) -> None:
        self._taken: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self._taken += [(address, str(mail["Subject"])) for address in envelope.rcpt_tos]
        return "250 OK"

    def of(self, address: str) -> list[str]:
        """The subjects of the mails to this address, in order."""
        return [subject for to, subject in self._taken if to == address]


class MailServer:
    """A real SMTP server that may go and come back."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._controller: Controller | None = None
        self.port = free_port()

    def start(self) -> None:
        self._controller = Controller(self._mailbox, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None


class User:
    """Somebody who is logged in, at one gateway."""

    def __init__(self, url: str, email: str, tokens: dict[str, Any]) -> None:
        self.email, self.tokens = email, tokens
        self.client = httpx.Client(
            base_url=url + API, headers={"Authorization": f"Bearer {tokens['access_token']}"}, timeout=60
        )

    @classmethod
    def registered(cls, url: str) -> Self:
        email = f"{uuid.uuid4().hex[:12]}@example.com"
        answer = httpx.post(f"{url}{API}/auth/register", json={"email": email, "password": PASSWORD})
        assert answer.is_success, answer.text
        return cls.logged_in(url, email)

    @classmethod
    def logged_in(cls, url: str, email: str) -> Self:
        form = {"username": email, "password": PASSWORD}
        return cls(url, email, httpx.post(f"{url}{API}/auth/token", data=form).raise_for_status().json())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def at(self, url: str) -> User:
        """The same session, at another gateway."""
        return User(url, self.email, self.tokens)

    def upload(self, path: Path, **options: str) -> dict[str, Any]:
        """The job of an upload."""
        with path.open("rb") as file:
            answer = self.client.post("/jobs", files={"file": (path.name, file)}, data={"fps": "2", **options})
        job: dict[str, Any] = answer.raise_for_status().json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.client.get(f"/jobs/{job_id}").raise_for_status().json()
        return job

    def completed(self, job_id: str, patience: float = 60) -> dict[str, Any]:
        """The job once it has ended well."""
        eventually(lambda: self.job(job_id)["state"] in ("completed", "failed", "cancelled"), patience)
        job = self.job(job_id)
        assert job["state"] == "completed", job
        return job


def health(gateway: RoleProcess) -> dict[str, str]:
    """The status of each thing, as a gateway tells it."""
    checks = httpx.get(f"{gateway.url}{API}/health/all", timeout=10).json()["checks"]
    return {name: check["status"] for name, check in checks.items()}


def sick(gateway: RoleProcess) -> set[str]:
    """What a gateway says does not work."""
    return {name for name, status in health(gateway).items() if status not in ("ok", "unknown")}


def _well(gateway: RoleProcess) -> bool:
    return not sick(gateway)


def wait_until_ready(stack: Stack) -> None:
    """Until every gateway finds everything well."""
    for gateway in stack.of("gateway"):
        eventually(partial(_well, gateway), 60)


def requests(process: RoleProcess) -> int:
    """How many an instance has answered, apart from what gateways ask by themselves."""
    text = httpx.get(f"{process.metrics_url}/metrics").text
    counts = [line for line in text.splitlines() if line.startswith("http_requests_total{")]
    asked = [line for line in counts if not any(word in line for word in ("/health/", "jwks", "/internal/"))]
    return sum(int(float(line.rpartition(" ")[2])) for line in asked)


@contextmanager
def away(processes: list[RoleProcess]) -> Iterator[None]:
    """Stopped meanwhile, all of them."""
    for process in processes:
        process.stop()
    try:
        yield
    finally:
        for process in processes:
            process.stop()  # one that a failed test has left
        started(processes)


def killed(processes: list[RoleProcess]) -> None:
    for process in processes:
        process.stop(signal.SIGKILL)


def started(processes: list[RoleProcess]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.wait()


def results(stack: Stack, job_id: str) -> list[str]:
    """The ZIPs of a job, whoever made them."""
    return sorted(path.name for path in (stack.home / "storage" / "jobs" / job_id).glob("*.zip"))


def verified(stack: Stack) -> dict[str, Any]:
    """What `fiapx verify` counts, all of it being right."""
    done = stack.of("processing")[0].command("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


def ask(stack: Stack, query: str) -> Any:
    """The first value that the database of processing gives."""
    return stack.postgres.ask(query, "processing")


def schema(stack: Stack) -> str:
    """Where the tables of processing are."""
    return str(ask(stack, "SELECT schemaname FROM pg_tables WHERE tablename = 'outbox'"))
