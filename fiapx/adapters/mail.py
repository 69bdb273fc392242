"""Ways to deliver a mail: to the log, or to a mail server."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from typing import Final, Literal

import structlog

from fiapx.core.circuit import Circuit
from fiapx.core.errors import MailRejected, Unavailable
from fiapx.core.text import visible

log = structlog.get_logger(__name__)

Tls = Literal["starttls", "tls", "none"]

_READY: Final = 220
PATIENCE: Final = 6
"""A delivery may take this many timeouts: a tarpit answers each read a moment before its own timeout."""


class ConsoleMailer:
    """Writes mails to the log instead of sending them."""

    def send(self, message: EmailMessage) -> None:
        body = message.get_body(("plain",))
        log.info("mail", to=str(message["To"]), subject=str(message["Subject"]), body=body and body.get_content())

    def resting(self) -> float:
        """There is nobody to wait for."""
        return 0.0


class SmtpMailer:
    """Hands mails to an SMTP server, with one connection each. `timeout` is in seconds, for each step.

    `circuit` opens when the server cannot be reached or used; what it says to a single mail is that mail's affair.
    """

    def __init__(
        self,
        host: str,
        port: int,
        user: str | None,
        password: str | None,
        tls: Tls = "starttls",
        timeout: float = 10,
        circuit: Circuit | None = None,
    ) -> None:
        self._circuit = circuit or Circuit("mail server", rest=30)
        self._host, self._port = host, port
        self._user, self._password = user, password
        self._tls, self._timeout = tls, timeout

    def send(self, message: EmailMessage) -> None:
        """A server that cannot be reached or used says nothing about the mail, so it is always worth a retry."""
        connection = self._new()
        with self._ending(connection):
            with self._circuit.call():
                self._connect(connection)
            try:
                connection.send_message(message)
            except (smtplib.SMTPException, OSError, ValueError) as error:
                raise _translated(error) from None

    def resting(self) -> float:
        return self._circuit.resting()

    def check(self) -> None:
        """Connect, say hello, encrypt and log in as for a mail, and leave. Raises Unavailable."""
        connection = self._new()
        with self._ending(connection):
            self._connect(connection)
            try:
                connection.ehlo_or_helo_if_needed()
            except (OSError, smtplib.SMTPException) as error:
                raise Unavailable(f"The mail server cannot be used: {_text(error)}") from None

    def _new(self) -> smtplib.SMTP:
        """Not yet connected, so that whoever ends it can from the first byte on."""
        if self._tls == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(timeout=self._timeout, context=ssl.create_default_context())
        else:
            connection = smtplib.SMTP(timeout=self._timeout)
        connection._host = self._host  # type: ignore[attr-defined]  # noqa: SLF001  whom a certificate must name
        return connection

    def _connect(self, connection: smtplib.SMTP) -> None:
        try:
            code, greeting = connection.connect(self._host, self._port)
            if code != _READY:
                raise smtplib.SMTPConnectError(code, greeting)
            if self._tls == "starttls":
                connection.starttls(context=ssl.create_default_context())
            if self._user and self._password is not None:
                connection.login(self._user, self._password)
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(f"The mail server cannot be used: {_text(error)}") from None

    @contextmanager
    def _ending(self, connection: smtplib.SMTP) -> Iterator[None]:
        """The mail is accepted when DATA is; a goodbye that goes wrong must not send it again."""
        watchdog = threading.Timer(self._timeout * PATIENCE, _cut, [connection])
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
            with suppress(smtplib.SMTPException, OSError):
                connection.quit()
        finally:
            watchdog.cancel()
            connection.close()


def _cut(connection: smtplib.SMTP) -> None:
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _translated(error: Exception) -> Unavailable | MailRejected:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, answer = next(iter(error.recipients.values()))
        error = smtplib.SMTPResponseException(code, answer)
    if isinstance(error, smtplib.SMTPResponseException):
        kind = MailRejected if error.smtp_code >= 500 else Unavailable
        return kind(f"The mail server answered {_text(error)}")
    if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPNotSupportedError):
        return Unavailable(f"The mail server went away: {_text(error)}")
    return MailRejected(f"The mail cannot be sent: {_text(error)}")


def _text(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        answer = error.smtp_error
        said = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
        return visible(f"{error.smtp_code} {said}")[:300]
    return visible(str(error) or type(error).__name__)[:300]
