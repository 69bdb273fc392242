"""From a job's outcome to a mail."""

from __future__ import annotations

from collections.abc import Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from email_validator import EmailNotValidError, validate_email
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fiapx.core.errors import MailRejected, UsageError
from fiapx.core.text import size, visible

log = structlog.get_logger(__name__)

_OURS: Final = Path(__file__).parent / "templates"

Language = Literal["en", "pt-BR"]


class Renderer:
    """Renders mails in a language. `public_url` is the base of links.

    `templates` is an operator's own folder, whose files stand in for ours of the same name. Where one of them cannot
    be rendered the mail is made of ours: a slip of the pen loses none. Raises UsageError if there is no such folder.
    """

    def __init__(
        self, *, public_url: str, mail_from: str, language: Language = "en", templates: Path | None = None
    ) -> None:
        self._url = public_url.rstrip("/")
        name, address = parseaddr(mail_from)
        self._from = Address(visible(name), addr_spec=address)
        self._ours = _environment(_OURS / language)
        self._own = self._ours
        if templates is not None:
            if not templates.is_dir():
                raise UsageError(f"FIAPX_MAIL_TEMPLATES: {str(templates)!r} is no folder")
            self._own = _environment(templates, _OURS / language)

    def render(self, event_id: str, recipient: str, data: Mapping[str, Any]) -> EmailMessage:
        """The mail for a job that ended. Its Message-ID depends on the event alone, so that a repeat is recognised.

        Raises MailRejected for an address that no mail can go to.
        """
        message = EmailMessage()
        message["From"] = self._from
        message["To"] = _address(recipient)
        subject, text, html = self._texts(_template(data), _context(data, self._url))
        message["Subject"] = visible(subject.strip())
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{visible(event_id)}@{self._from.domain or 'localhost'}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        message.add_alternative(html, subtype="html")
        return message

    def _texts(self, name: str, context: Mapping[str, Any]) -> tuple[str, str, str]:
        """The subject and both bodies."""
        if self._own is not self._ours:
            try:
                return _rendered(self._own, name, context)
            except Exception as error:  # noqa: BLE001 - whatever an operator wrote
                log.warning("mail_template_broken", template=name, error=f"{type(error).__name__}: {error}")
        return _rendered(self._ours, name, context)


def _environment(*folders: Path) -> Environment:
    """Templates of the first folder that has them. They reach what they are given, and nothing else of this program."""
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folders),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _rendered(environment: Environment, name: str, context: Mapping[str, Any]) -> tuple[str, str, str]:
    subject, text, html = (
        environment.get_template(f"{name}.{kind}").render(context) for kind in ("subject", "txt", "html")
    )
    return subject, text, html


def _template(data: Mapping[str, Any]) -> str:
    if data.get("state") != "completed":
        return "failed"
    return "completed-with-warnings" if data.get("warnings") else "completed"


def _context(data: Mapping[str, Any], url: str) -> dict[str, Any]:
    """What templates may use; everything that a stranger wrote has its hidden characters shown."""
    return {
        "job_id": visible(str(data.get("job_id", ""))),
        "video_name": visible(str(data.get("video_name") or "video")),
        "frames": int(data.get("frames") or 0),
        "size": size(int(data.get("size") or 0)),
        "warnings": [visible(str(warning.get("message", ""))) for warning in data.get("warnings") or []],
        "error_code": visible(str(data.get("error_code") or "internal")),
        "error_message": visible(str(data.get("error_message") or "The job failed.")),
        "url": url,
    }


def _address(recipient: str) -> Address:
    try:
        valid = validate_email(recipient, check_deliverability=False)
    except EmailNotValidError as error:
        raise MailRejected(f"The address is not valid: {visible(str(error))}") from None
    return Address(username=valid.local_part, domain=valid.ascii_domain)
