"""The Mailer port, and SMTP's answers."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fiapx.adapters.mail import ConsoleMailer, SmtpMailer, Tls
from fiapx.core.errors import MailRejected, Unavailable
from fiapx.core.ports import Mailer
from scripts.servers.process import free_port


class Inbox:
    """An SMTP server's handler: gives the answers it is told to, then accepts."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.rcpt_answers: list[str] = []
        self.mails: list[Any] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if self.rcpt_answers:
            return self.rcpt_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.answers:
            return self.answers.pop(0)
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def port(inbox: Inbox) -> Iterator[int]:
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


def smtp(port: int, timeout: float = 5) -> SmtpMailer:
    return SmtpMailer("127.0.0.1", port, None, None, "none", timeout)


def message(subject: str = "Your frames are ready: férias.mp4") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "fiapx <no-reply@example.com>"
    mail["To"] = "ana@example.com"
    mail["Subject"] = subject
    mail["Message-ID"] = "<e1@example.com>"
    mail.set_content("Twelve frames.\n.\nwith a dot\n")
    return mail


@pytest.fixture(params=["console", "smtp"])
def mailer(request: pytest.FixtureRequest, port: int) -> Mailer:
    return ConsoleMailer() if request.param == "console" else smtp(port)


def test_every_mailer_takes_a_mail_and_leaves_it_unchanged(mailer: Mailer, inbox: Inbox) -> None:
    mail = message()
    before = mail.as_bytes()
    with structlog.testing.capture_logs() as lines:
        mailer.send(mail)
        mailer.send(mail)
    assert mail.as_bytes() == before
    assert len(lines) + len(inbox.mails) == 2


def test_the_console_shows_the_mail() -> None:
    with structlog.testing.capture_logs() as lines:
        ConsoleMailer().send(message())
    (line,) = lines
    assert line["event"] == "mail"
    assert (line["to"], line["subject"]) == ("ana@example.com", "Your frames are ready: férias.mp4")
    assert line["body"].startswith("Twelve frames.")


def test_smtp_delivers_the_mail(port: int, inbox: Inbox) -> None:
    smtp(port).send(message())
    (envelope,) = inbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@example.com", ["ana@example.com"])
    assert b"Message-ID: <e1@example.com>" in envelope.content
    assert b"\r\n.\r\nwith a dot" in envelope.content.replace(b"\r\n..\r\n", b"\r\n.\r\n")


@pytest.mark.fault(25, "SMTP answers 4xx, then 5xx")
def test_smtp_tells_later_from_never(port: int, inbox: Inbox) -> None:
    mailer = smtp(port)
    inbox.answers = ["451 greylisted", "421 shutting down", "550 spam \x1b[31m"]
    for _ in range(2):
        with pytest.raises(Unavailable):
            mailer.send(message())
    with pytest.raises(MailRejected, match="550 spam") as caught:
        mailer.send(message())
    assert "\x1b" not in caught.value.message
    inbox.rcpt_answers = ["450 mailbox busy", "550 no such user"]
    with pytest.raises(Unavailable, match="450 mailbox busy"):
        mailer.send(message())
    with pytest.raises(MailRejected, match="550 no such user"):
        mailer.send(message())
    mailer.send(message())
    assert len(inbox.mails) == 1


def test_no_server_is_trouble_for_later() -> None:
    with pytest.raises(Unavailable):
        smtp(free_port()).send(message())


def test_a_missing_starttls_is_trouble_for_later(port: int, inbox: Inbox) -> None:
    with pytest.raises(Unavailable):
        SmtpMailer("127.0.0.1", port, "user", "a secret", "starttls", 5).send(message())
    with pytest.raises(Unavailable) as caught:
        SmtpMailer("127.0.0.1", port, "user", "a secret", "none", 5).send(message())
    assert "a secret" not in caught.value.message
    assert inbox.mails == []


def scripted(*answers: bytes, pause: float = 0) -> tuple[int, threading.Thread]:
    """A server that says these lines one by one, whatever it hears, then nothing more until the client leaves."""
    server = socket.create_server(("127.0.0.1", 0))
    port: int = server.getsockname()[1]

    def serve() -> None:
        with server, server.accept()[0] as connection:
            for answer in answers:
                connection.sendall(answer)
                time.sleep(pause)
                if not connection.recv(65536):
                    return
            while connection.recv(65536):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    return port, thread


def test_a_silent_server_costs_one_timeout() -> None:
    port, thread = scripted()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        smtp(port, timeout=0.3).send(message())
    assert time.monotonic() - started < 3
    thread.join(5)


@pytest.mark.parametrize("greeting", ["421 too busy", "554 no service here"])
def test_a_server_that_does_not_welcome_us_says_nothing_of_the_mail(greeting: str) -> None:
    port, thread = scripted(f"{greeting}\r\n".encode(), b"503 bad sequence\r\n", b"503 bad sequence\r\n")
    mailer = smtp(port)
    with pytest.raises(Unavailable, match=greeting):
        mailer.send(message())
    thread.join(5)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of localhost, with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "localhost.pem"
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_server_must_prove_its_name(
    inbox: Inbox, certificate: Path, monkeypatch: pytest.MonkeyPatch, tls: Tls
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    options = {"ssl_context": context} if tls == "tls" else {"tls_context": context, "require_starttls": True}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        SmtpMailer("localhost", controller.port, None, None, tls, timeout=5).send(message())
        with pytest.raises(Unavailable, match="certificate"):
            SmtpMailer("127.0.0.1", controller.port, None, None, tls, timeout=5).send(message())
    finally:
        controller.stop()
    assert len(inbox.mails) == 1


@pytest.mark.fault(25, "an SMTP tarpit")
@pytest.mark.parametrize("tls", ["none", "starttls"])
@pytest.mark.parametrize("greeting", [b"220 tarpit\r\n", b""], ids=["after its greeting", "from its first word"])
def test_a_tarpit_is_left_in_the_end(greeting: bytes, tls: Tls) -> None:
    """It answers each command with a byte at a time, always within the timeout."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as connection:
            connection.sendall(greeting)
            try:
                while True:
                    connection.sendall(b"2")
                    time.sleep(0.1)
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        SmtpMailer("127.0.0.1", server.getsockname()[1], None, None, tls, timeout=0.2).send(message())
    assert time.monotonic() - started < 4
    thread.join(5)


def test_a_goodbye_that_fails_does_not_undo_the_delivery() -> None:
    said = [b"220 hi\r\n", b"250 ehlo\r\n", b"250 mail\r\n", b"250 rcpt\r\n", b"354 go\r\n", b"250 accepted\r\n"]
    port, thread = scripted(*said)
    smtp(port, timeout=0.5).send(message())
    thread.join(5)
