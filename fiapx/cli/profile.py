"""The profile: which server, which account, and its tokens. A file that only its owner can read."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fiapx.cli.failures import writing
from fiapx.core.errors import UsageError


@dataclass(frozen=True)
class Profile:
    """What a log-in leaves behind. The tokens are good for `server` alone."""

    server: str | None = None
    email: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None

    def __repr__(self) -> str:
        return f"Profile(server={self.server!r}, email={self.email!r})"


class ProfileStore:
    """Reads and writes the profile at `path`. A reader sees the old or the new one, never half of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> ProfileStore:
        """At FIAPX_CONFIG, or in the platform's folder for configuration."""
        if given := environ.get("FIAPX_CONFIG"):
            return cls(Path(given))
        from platformdirs import user_config_path

        return cls(user_config_path("fiapx") / "profile.json")

    def load(self) -> Profile:
        """The profile; an empty one if there is none. Raises UsageError for a file that is no profile."""
        try:
            content = json.loads(self.path.read_bytes())
            known = {field.name: content.get(field.name) for field in fields(Profile)}
        except FileNotFoundError:
            return Profile()
        except OSError as error:
            raise UsageError(f"cannot read the profile {str(self.path)!r}: {error.strerror}") from None
        except (ValueError, AttributeError):
            known = {"server": 0}
        if not all(value is None or isinstance(value, str) for value in known.values()):
            raise UsageError(f"the profile {str(self.path)!r} is damaged", hint="Remove it and log in again.")
        return Profile(**known)

    def save(self, profile: Profile) -> None:
        """Replace the profile; it is on stable storage afterwards, with mode 0600."""
        target = Path(os.path.realpath(self.path))
        with writing(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # 0600
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(asdict(profile), file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(target)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time: for reading, refreshing and saving tokens."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        with writing(lock):
            lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def server_url(flag: str | None, environ: Mapping[str, str], profile: Profile) -> str:
    """The server: flag, then FIAPX_SERVER, then the profile's, then this machine's. Raises UsageError."""
    from urllib.parse import urlsplit

    given = flag or environ.get("FIAPX_SERVER") or profile.server or "http://127.0.0.1:8000"
    try:
        parts = urlsplit(given)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError("the server's address is not a URL", hint="It looks like https://fiapx.example.org:8000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("the server's address may hold a scheme, a host, a port and a path only")
    return given.rstrip("/")


def check_secure(server: str, environ: Mapping[str, str]) -> None:
    """Raises UsageError if a secret would cross a network unencrypted."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    parts = urlsplit(server)
    host = parts.hostname or ""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    if parts.scheme == "http" and not loopback and environ.get("FIAPX_INSECURE") != "1":
        raise UsageError(
            f"refusing to send a password or token over plain HTTP to {host}",
            hint="Use https://, or set FIAPX_INSECURE=1 if you trust the network.",
        )
