"""Every setting: ``FIAPX_*`` environment variables, files that they name (``FIAPX_*_FILE``), and one TOML file.

Only the command line reads them, and hands them down.
"""

from __future__ import annotations

import os
import re
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fiapx.core.places import settings_file

MIB = 1024 * 1024
GIB = 1024 * MIB


_PREFIX = "FIAPX_"


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""A list in TOML, or separated by commas in the environment."""


def _rises(value: tuple[int, int] | None) -> tuple[int, int] | None:
    if value is not None and not 1 <= value[0] <= value[1] <= _MOST_WORKERS:
        raise ValueError(f"must be two numbers such as 1,4: the fewest, and the most, up to {_MOST_WORKERS}")
    return value


_MOST_WORKERS = 64

Span = Annotated[tuple[int, int] | None, NoDecode, BeforeValidator(_listed), AfterValidator(_rises)]
"""The fewest and the most."""


HIDDEN: Final = "********"
PASSWORD: Final = re.compile(r"(?<=://)([^/@:]*):([^/@]+)(?=@)")
"""User and password in a URL."""

_FOLDER_OR_BUCKET: Final = re.compile(r"file:///|s3://[^/]|(?![A-Za-z][A-Za-z0-9+.-]+:/).")
"""Begins what can be stored in: a path is whatever has no scheme."""

_SCHEMES = {"redis_url": ("redis", "rediss", "unix"), "rabbitmq_url": ("amqp", "amqps")}


def _on_the_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return good and url.isprintable() and " " not in url


def _connects(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether its driver can read it. SQLAlchemy takes passwords that urllib does not."""
    scheme = url.partition("://")[0]
    if scheme not in schemes:
        return False
    try:
        port = _database_port(url) if scheme.startswith("postgres") else urlsplit(url).port
    except ValueError:
        return False
    return port is None or 1 <= port <= 65535


def _database_port(url: str) -> int | None:
    from sqlalchemy import make_url  # most commands do without it
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).port
    except ArgumentError:
        raise ValueError from None


class _Files(PydanticBaseSettingsSource):
    """``FIAPX_X_FILE`` names a file with the value of ``FIAPX_X``, as orchestrators hand out secrets."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        path = os.environ.get(f"{_PREFIX}{field_name.upper()}_FILE")
        return (Path(path).read_text().strip() if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """Frozen after start. Times are in seconds, sizes in bytes. With nothing set, everything runs embedded."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", validate_default=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then files that it names, then the TOML file."""
        del dotenv_settings, file_secret_settings
        return (
            init_settings,
            env_settings,
            _Files(settings_cls),
            TomlConfigSettingsSource(settings_cls, settings_file()),
        )

    home: Path = Field(default_factory=lambda: user_data_path("fiapx"))
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    ffmpeg: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Port of its own for metrics and health; the roles without another need it."""

    otlp_url: str | None = None
    """A collector of traces, such as ``http://127.0.0.1:4318``."""
    trace_sample: float = Field(1, ge=0, le=1)
    """The share of requests whose traces are recorded."""

    auth_database_url: SecretStr | None = None
    processing_database_url: SecretStr | None = None
    notify_database_url: SecretStr | None = None
    """PostgreSQL, one login each."""
    processing_read_url: SecretStr | None = None
    """A streaming replica of processing's database."""
    database_pool: int = Field(5, ge=2, le=500)
    """Connections that a process keeps to each database; a relay needs two."""
    statement_timeout: float = Field(15, gt=0)
    redis_url: SecretStr | None = None
    rabbitmq_url: SecretStr | None = None
    publish_deadline: float = Field(10, gt=0)
    """Until an event that RabbitMQ does not confirm is kept for later."""
    storage_url: str | None = None
    """A folder that all roles share, or ``s3://bucket/prefix``; `home` where it is not given."""
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_timeout: float = Field(30, gt=0)
    """For one try of a request; connecting has five seconds of it."""
    s3_presign: int = Field(0, ge=0, le=7 * 24 * 3600)
    """How long a URL is good by which clients download a ZIP from the store itself; 0 sends it through fiapx."""
    s3_public_endpoint: str | None = None
    """Where clients reach the store, if that is another address than `s3_endpoint`."""

    auth_urls: Words = ()
    processing_urls: Words = ()
    """Where the gateway finds the services; several are balanced."""
    upstream_connect_timeout: float = Field(1, gt=0)
    upstream_timeout: float = Field(30, gt=0)
    upstream_connections: int = Field(64, ge=1)
    trusted_proxies: Words = ()
    cors_origins: Words = ()
    user_rate: str = "1200/minute"
    """Requests of one user, over all gateways."""
    address_rate: str = "600/minute"
    """Requests without a log-in from one address."""
    parallel_uploads: int = Field(2, ge=1)
    """Of one user through one gateway; more wait for their turn."""
    upload_bandwidth: int = Field(0, ge=0)
    """Bytes a second of one user; 0 for no bound."""
    cache_ttl_sessions: float = Field(60, gt=0)
    cache_ttl_jobs: float = Field(5, ge=0)
    cache_ttl_videos: float = Field(30, ge=0)
    warm_users: Words = ()
    """Whose lists are in the cache before the first request."""
    cache_ttl_stale: float = Field(300, gt=0)

    secret_key: SecretStr | None = None
    """Encrypts the signing keys at rest; made and kept in `home` where it is not given."""
    bcrypt_rounds: int = Field(12, ge=4, le=16)
    access_ttl: int = Field(900, gt=0)
    refresh_ttl: int = Field(30 * 24 * 3600, gt=0)
    login_rate: str = "10/minute"
    """Failed log-ins allowed for one account from one address."""
    register_rate: str = "60/minute"
    """New accounts allowed for one address."""

    max_upload_bytes: int = Field(20 * GIB, gt=0)
    upload_ttl: float = Field(24 * 3600, gt=0)
    """How long an upload that is not finished waits for its next bytes."""
    max_frames: int = Field(86_400, gt=0)
    max_pixels: int = Field(8192 * 8192, gt=0)
    max_output_bytes: int = Field(20 * GIB, gt=0)
    job_timeout: float = Field(4 * 3600, gt=0)
    body_timeout: float = Field(60, gt=0)
    """Longest silence of a client in the middle of a request body."""

    user_jobs: int = Field(1000, gt=0)
    """Jobs of one user that may wait or run."""
    queue_jobs: int = Field(100_000, gt=0)
    """Jobs of all users that may wait."""
    keep: float = Field(0, ge=0)
    """How long results and videos are kept; 0 for ever. The history of jobs stays."""

    concurrency: int = Field(1, ge=1, le=64)
    cores: int | None = Field(None, ge=1)
    """For the decoders of one process; what its container was granted where it is not given."""
    autoscale: Span = None
    """Fewest and most worker processes under one supervisor."""
    autoscale_age: float = Field(10, gt=0)
    """A job that waits longer than this wants one more process."""
    autoscale_idle: float = Field(60, gt=0)
    """A queue that is empty for as long wants one fewer."""
    part: float = Field(2000, ge=0)
    """Jobs of three parts or more are shared by workers; a part takes as long as so many pictures of 1080p to decode.
    0: one worker a job."""
    lease: float = Field(30, gt=0)
    heartbeat: float = Field(10, gt=0, validate_default=True)
    reaper_interval: float = Field(5, gt=0)
    sweep_interval: float = Field(300, gt=0)
    sweep_age: float = Field(3600, ge=0)
    grace: float = Field(20, ge=0)
    """How long a stopping worker lets running jobs finish before it releases them."""

    smtp_host: str | None = None
    smtp_port: int = 587
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_timeout: float = Field(10, gt=0)
    mail_from: str = "fiapx <no-reply@localhost>"
    mail_language: Literal["en", "pt-BR"] = "en"
    mail_templates: Path | None = None
    """A folder whose templates stand in for those of the same name that come with fiapx."""
    public_url: str | None = None
    """Base of links in e-mails; the listening address where it is not given."""

    @field_validator("login_rate", "register_rate", "user_rate", "address_rate")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        from limits import parse  # most commands do without it

        try:
            parse(value)
        except ValueError:
            raise ValueError("must be a rate such as 10/minute") from None
        return value

    @field_validator("public_url", "otlp_url", "s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_a_web_address(cls, value: str | None) -> str | None:
        if value is not None and not _on_the_web(value):
            raise ValueError("must be a URL such as https://fiapx.example.org")
        return value

    @field_validator("auth_urls", "processing_urls")
    @classmethod
    def _are_web_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_on_the_web, value)):
            raise ValueError("must be URLs such as http://host:8001, separated by commas")
        return value

    @field_validator("storage_url")
    @classmethod
    def _stores(cls, value: str | None) -> str | None:
        if value is not None and not _FOLDER_OR_BUCKET.match(value):
            raise ValueError("must be a folder such as /var/lib/fiapx, or s3://bucket/prefix")
        return value

    @field_validator(
        "auth_database_url",
        "processing_database_url",
        "processing_read_url",
        "notify_database_url",
        "redis_url",
        "rabbitmq_url",
    )
    @classmethod
    def _has_its_scheme(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """The value itself is told to nobody: it has a password."""
        schemes = _SCHEMES.get(info.field_name or "", ("postgresql", "postgres"))
        if value is not None and not _connects(value.get_secret_value(), schemes):
            raise ValueError(f"must be a URL such as {schemes[0]}://user:password@host")
        return value

    @field_validator("heartbeat")
    @classmethod
    def _renews_in_time(cls, value: float, info: ValidationInfo) -> float:
        """A lease that is never renewed in time makes every long job fail as `crash_loop`."""
        if value * 2 > info.data.get("lease", value * 2):
            raise ValueError("must be at most half of FIAPX_LEASE")
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            Address(addr_spec=parseaddr(value)[1])
        except (ValueError, IndexError, HeaderParseError):
            raise ValueError("must be an address such as fiapx <no-reply@example.org>") from None
        return value
