"""The installed command as a stranger meets it: started as processes, with data and a profile of their own."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from tests.e2e.processes import Process, decoders, traces
from tests.processing_kit import eventually

FIAPX = Path(sys.executable).with_name("fiapx")
PASSWORD = "plum-orbit-tractor-91"
_START = 60.0
"""Seconds that a server may take to start, and a command to end, on a machine that is busy with other tests."""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Everything private to `folder`, and none of the settings of whoever runs the tests."""
    return {
        "PATH": f"{FIAPX.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "FIAPX_HOME": str(folder / "data"),
        "FIAPX_CONFIG": str(folder / "profile.json"),
        "FIAPX_BCRYPT_ROUNDS": "4",
        "PYTHONFAULTHANDLER": "1",  # a server that hangs tells where, to those who abort it
        **settings,
    }


def run(
    folder: Path, *arguments: str | Path, stdin: str = "", environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command to its end, in `folder`."""
    return subprocess.run(
        [str(FIAPX), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder, **(environ or {})),
        timeout=_START,
    )


class Server:
    """`fiapx up` on ``folder/data``. It may be killed and started again; leaving the `with` block ends it, and fails
    if a process stays behind."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.home = folder / "data"
        self.url = ""
        self.pid = 0
        self._log = folder / "server.log"
        self._environ = environment(folder, **settings)
        self._process: subprocess.Popen[str] | None = None
        self._accounts: list[Account] = []

    def start(self, *, port: int = 0) -> Self:
        """Return once it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(FIAPX), "up", "--json", "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=self._environ,
            )
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], _START)[0], self.log()
        ready = json.loads(self._process.stdout.readline() or "{}")
        assert ready, self.log()
        self.url, self.pid = ready["url"], ready["pid"]
        return self

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    def log(self) -> str:
        return self._log.read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's lines about this event."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    def decoders(self) -> list[Process]:
        """The children that decode at this moment."""
        return decoders(self.pid)

    def kill(self) -> list[Process]:
        """SIGKILL; the decoders that ran then. Stopped first, so that none starts between our look and the signal."""
        os.kill(self.pid, signal.SIGSTOP)
        running = self.decoders()
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return running

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float = _START) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        code = self._process.wait(timeout)
        if self._process.stdout:
            self._process.stdout.close()
        self._process = None
        return code

    def row(self, job_id: str) -> sqlite3.Row:
        """The job as the database has it."""
        with closing(sqlite3.connect(self.home / "processing.db")) as database:
            database.row_factory = sqlite3.Row
            row: sqlite3.Row = database.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return row

    def files(self, below: str = "") -> set[str]:
        """Every file in storage, finished or not."""
        root = self.home / "storage"
        while True:
            with suppress(FileNotFoundError):  # a folder went meanwhile
                return {path.relative_to(root).as_posix() for path in (root / below).rglob("*") if path.is_file()}

    def account(self) -> Account:
        """A new account, logged in."""
        account = Account(self, f"{uuid.uuid4().hex[:12]}@example.com")
        self._accounts.append(account)
        return account

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for account in self._accounts:
            account.close()
        if self._process is not None:
            self.terminate()
            try:
                self.wait(_START)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGABRT)
                self.wait()
                raise AssertionError(f"it does not end:\n{self.log()}") from None
        eventually(lambda: not traces(self.folder), timeout=20)


class Reachable(Protocol):
    """Where accounts are."""

    url: str


class Account:
    """Somebody with a token, over HTTP and as commands."""

    def __init__(self, server: Reachable, email: str) -> None:
        self.email = email
        self._server = server
        self._http = httpx.Client(trust_env=False, timeout=30)
        self.request("POST", "/auth/register", json={"email": email, "password": PASSWORD}).raise_for_status()
        form = {"username": email, "password": PASSWORD}
        self.token = str(self.request("POST", "/auth/token", data=form).raise_for_status().json()["access_token"])
        self._http.headers["Authorization"] = f"Bearer {self.token}"

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        return self._http.request(method, f"{self._server.url}/api/v1{path}", **content)

    def get(self, path: str) -> Any:
        return self.request("GET", path).raise_for_status().json()

    @property
    def environ(self) -> dict[str, str]:
        return {"FIAPX_SERVER": self._server.url, "FIAPX_TOKEN": self.token}

    def run(self, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A client's command as this account."""
        return run(folder, *arguments, environ=self.environ)

    def upload(self, video: Path, **options: Any) -> str:
        """The id of a new job."""
        with video.open("rb") as file:
            fields = {key: str(value) for key, value in options.items()}
            answer = self.request("POST", "/jobs", data=fields, files={"file": (video.name, file)})
        return str(answer.raise_for_status().json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/jobs/{job_id}"))

    def reach(self, job_id: str, *, frames: int = 1, attempt: int = 1, timeout: float = _START) -> None:
        """Wait until the job runs and has so many frames; fail if it has ended."""

        def there() -> bool:
            job = self.job(job_id)
            assert job["state"] in {"queued", "running"}, job
            progress = job["progress"] or {"done": 0}
            return bool(job["state"] == "running" and job["attempt"] == attempt and progress["done"] >= frames)

        eventually(there, timeout=timeout)

    def ended(self, job_id: str, timeout: float = _START) -> dict[str, Any]:
        """The job, once it has ended."""
        job: dict[str, Any] = {}

        def done() -> bool:
            job.update(self.job(job_id))
            return job["state"] not in {"queued", "running"}

        eventually(done, timeout=timeout)
        return job


def get(url: str, **request: Any) -> httpx.Response:
    """GET by nobody in particular, and never through a proxy."""
    return httpx.get(url, trust_env=False, timeout=30, **request)


def quickly(true: Callable[[], bool], within: float) -> float:
    """Wait until something has come true, and return the seconds that it took."""
    began = time.monotonic()
    eventually(true, timeout=within)
    return time.monotonic() - began


def freeze(processes: list[Process], number: signal.Signals = signal.SIGSTOP) -> None:
    """Stop decoders where they are, so that a job neither ends nor goes on by itself; SIGCONT undoes it."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
