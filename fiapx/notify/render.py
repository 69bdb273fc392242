"""From a job's outcome to a mail."""

from __future__ import annotations

from collections.abc import Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from pathlib import Path
from typing import Any

from email_validator import EmailNotValidError, validate_email
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from fiapx.core.errors import MailRejected
from fiapx.core.text import size, visible


class Renderer:
    """Renders mails from the templates next to this module. `public_url` is the base of links."""

    def __init__(self, *, public_url: str, mail_from: str) -> None:
        self._url = public_url.rstrip("/")
        name, address = parseaddr(mail_from)
        self._from = Address(visible(name), addr_spec=address)
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, event_id: str, recipient: str, data: Mapping[str, Any]) -> EmailMessage:
        """The mail for a job that ended. Its Message-ID depends on the event alone, so that a repeat is recognised.

        Raises MailRejected for an address that no mail can go to.
        """
        name = _template(data)
        context = _context(data, self._url)
        message = EmailMessage()
        message["From"] = self._from
        message["To"] = _address(recipient)
        message["Subject"] = visible(self._templates.get_template(f"{name}.subject").render(context))
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{visible(event_id)}@{self._from.domain or 'localhost'}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self._templates.get_template(f"{name}.txt").render(context))
        message.add_alternative(self._templates.get_template(f"{name}.html").render(context), subtype="html")
        return message


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
