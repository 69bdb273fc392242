"""Private PostgreSQL servers with the configuration and the logins of the Compose file."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import psycopg2

from scripts.servers.process import (
    PrivateProcess,
    ServerFailed,
    free_port,
    hand_over,
    program,
    unprivileged,
    wait_until,
)

SERVICES: Final = ("auth", "processing", "notify")

_ADMIN: Final = "postgres"
_SHIPPED: Final = Path(__file__).parents[2] / "compose" / "postgres"
_PROGRAMS: Final = tuple(f"/usr/lib/postgresql/{version}/bin/postgres" for version in (15, 16, 17, 18))


class _Server:
    """A server on its data, which are in `folder`. Without `fsync`, what is committed survives the process, but no
    power cut."""

    configuration: ClassVar[Path | None] = _SHIPPED / "postgresql.conf"
    """None: PostgreSQL's own."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self._programs = program("postgresql", *_PROGRAMS).parent
        self._folder, self._data = folder, folder / "data"
        self._owner = unprivileged(_ADMIN)
        self.port = free_port()
        self._process: PrivateProcess | None = None
        self._options = {"port": str(self.port), "listen_addresses": "127.0.0.1", "fsync": "on" if fsync else "off"}
        folder.mkdir(parents=True, exist_ok=True)
        hand_over(folder, self._owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, service: str) -> str:
        """With the login of a service, or of ``postgres``, who may do everything, to its database."""
        return f"postgresql://{service}:{service}@127.0.0.1:{self.port}/{service}"

    def start(self) -> None:
        """Return once it takes connections."""
        options = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        options += ["-c", f"config_file={self.configuration}"] if self.configuration else []
        sockets = ["-c", f"unix_socket_directories={self._folder}"]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *sockets, *options]
        self._process = PrivateProcess(command, self._folder, owner=self._owner, ending=signal.SIGINT)
        self._process.wait_until(self._answers)

    def stop(self) -> None:
        """End all sessions and shut down."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """All of it at once, without a word."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def pause(self) -> None:
        """It keeps its connections, the kernel takes new ones, and nothing is answered."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGCONT)

    def ask(self, query: str, database: str = _ADMIN) -> Any:
        """The first value that a statement gives, by the administrator and in a transaction of its own."""
        connection = psycopg2.connect(self.url(_ADMIN).rpartition("/")[0] + f"/{database}", connect_timeout=2)
        connection.autocommit = True
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def _answers(self) -> bool:
        return bool(self.ask("SELECT true"))

    def _run(self, name: str, *arguments: str, **environment: str) -> None:
        user, group = self._owner or (None, None)
        subprocess.run(
            [str(self._programs / name), *arguments],
            cwd=self._folder,
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
            user=user,
            group=group,
            extra_groups=[] if self._owner else None,
        )


class PrivatePostgres(_Server):
    """A database made in this folder before is used again. Raises ServerMissing or ServerFailed."""

    def __init__(self, folder: Path, *, fsync: bool = False, secrets: Path | None = None) -> None:
        """`secrets` is the folder of files with passwords; without, a login's password is its name."""
        super().__init__(folder, fsync=fsync)
        self._secrets = secrets
        fresh = not self._data.exists()
        if fresh:
            self._initialise()
        with ExitStack() as undo:
            undo.callback(self.stop)
            self.start()
            if fresh:
                self._provision()
            undo.pop_all()

    def _initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(_ADMIN)
        password.chmod(0o644)
        arguments = ["-D", self._data, "-U", _ADMIN, f"--pwfile={password}", "--auth=scram-sha-256", "-E", "UTF8"]
        self._run("initdb", *map(str, arguments), "--locale=C.UTF-8", "--no-sync")

    def _provision(self) -> None:
        secrets = self._folder / "secrets"
        secrets.mkdir(exist_ok=True)
        for name in (*SERVICES, "monitor"):
            file = f"{name}_password"
            (secrets / file).write_text((self._secrets / file).read_text() if self._secrets else name)
        self._run("psql", "-X", "-q", "-f", str(_SHIPPED / "init.sql"), self.url(_ADMIN), SECRETS=str(secrets))


class PrivateReplica(_Server):
    """Streams from a primary, with all its databases and logins. Its methods raise ServerMissing or ServerFailed."""

    def __init__(self, primary: PrivatePostgres, folder: Path) -> None:
        super().__init__(folder)
        self._primary = primary
        copy = ["-D", str(self._data), "-d", primary.url(_ADMIN), "--checkpoint=fast", "--no-sync"]
        self._run("pg_basebackup", *copy, "--write-recovery-conf")
        self.start()

    def hold(self) -> None:
        """Show nothing of what the primary writes from now on, until `follow`."""
        self.ask("SELECT pg_wal_replay_pause()")
        self._expect("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def follow(self) -> None:
        """Return once it has all that the primary had when this was called."""
        self.ask("SELECT pg_wal_replay_resume()")
        written = self._primary.ask("SELECT pg_current_wal_lsn()")
        self._expect(f"SELECT pg_last_wal_replay_lsn() >= '{written}'")

    def _expect(self, query: str) -> None:
        if not wait_until(lambda: bool(self.ask(query))):
            raise ServerFailed(f"waited in vain: {query}")
