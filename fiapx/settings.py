"""Every setting, from ``FIAPX_*`` environment variables. Only the command line reads them, and hands them down."""

from __future__ import annotations

from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024
GIB = 1024 * MIB


class Settings(BaseSettings):
    """Frozen after start. Times are in seconds, sizes in bytes. With nothing set, everything runs embedded."""

    model_config = SettingsConfigDict(env_prefix="FIAPX_", frozen=True, extra="ignore", validate_default=False)

    home: Path = Field(default_factory=lambda: user_data_path("fiapx"))
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    ffmpeg: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

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
    max_frames: int = Field(86_400, gt=0)
    max_pixels: int = Field(8192 * 8192, gt=0)
    max_output_bytes: int = Field(20 * GIB, gt=0)
    job_timeout: float = Field(4 * 3600, gt=0)
    body_timeout: float = Field(60, gt=0)
    """Longest silence of a client in the middle of a request body."""

    concurrency: int = Field(1, ge=1, le=64)
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
    public_url: str | None = None
    """Base of links in e-mails; the listening address where it is not given."""

    @field_validator("login_rate", "register_rate")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        from limits import parse  # most commands do without it

        try:
            parse(value)
        except ValueError:
            raise ValueError("must be a rate such as 10/minute") from None
        return value

    @field_validator("public_url")
    @classmethod
    def _is_a_web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or not value.isprintable() or " " in value:
            raise ValueError("must be a URL such as https://fiapx.example.org")
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
