"""One mail for each job that ended, through a real SMTP conversation."""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from scripts.servers.process import free_port
from tests.e2e.kit import Server, run
from tests.processing_kit import eventually


class Inbox:
    """An SMTP server's handler that takes everything."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 OK"

    def mails(self) -> dict[str, EmailMessage]:
        """By subject."""
        parsed = [email.message_from_bytes(one.content, policy=email.policy.default) for one in self.envelopes]
        return {str(mail["Subject"]): mail for mail in parsed}


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def port(inbox: Inbox) -> Iterator[int]:
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


def test_each_job_that_ended_gives_one_mail(inbox: Inbox, port: int, clip: Path, long: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video at all\n" * 100)
    smtp = {"FIAPX_SMTP_HOST": "127.0.0.1", "FIAPX_SMTP_PORT": str(port), "FIAPX_SMTP_TLS": "none"}
    with Server(tmp_path, **smtp) as server:
        ana = server.account()
        good, bad = ana.upload(clip), ana.upload(tmp_path / "notes.mp4")
        cancelled = ana.upload(long, fps=25)  # nobody is told of what they did themselves
        ana.request("POST", f"/jobs/{cancelled}/cancel").raise_for_status()
        assert (ana.ended(good)["state"], ana.ended(bad)["state"]) == ("completed", "failed")
        eventually(lambda: len(inbox.envelopes) >= 2)
        time.sleep(1.5)  # longer than the sender's pause, for mails that should not come
        server.terminate()
        assert server.wait() == 0
        server.start()
        eventually(lambda: len(server.logged("mail_sent")) >= 2)
        time.sleep(1.5)  # a restart repeats none
        assert ana.job(cancelled)["state"] == "cancelled"
        told = json.loads(run(tmp_path, "notifications", "--json").stdout)["notifications"]
        unknown = run(tmp_path, "notifications", "--state", "lost")
        none = run(tmp_path, "notifications", "--state", "failed", "--to", ana.email.upper())
    assert [(mail["job_id"], mail["state"], len(mail["attempts"])) for mail in told] == [
        (bad, "sent", 1),
        (good, "sent", 1),
    ]
    assert {(mail["recipient"], mail["attempts"][0]["state"]) for mail in told} == {(ana.email, "sent")}
    assert (none.returncode, none.stdout) == (0, "")
    assert (unknown.returncode, "there is no state lost" in unknown.stderr) == (2, True)
    assert [one.rcpt_tos for one in inbox.envelopes] == [[ana.email]] * 2
    mails = inbox.mails()
    assert set(mails) == {"Your frames are ready: clip.mp4", "No frames from notes.mp4"}
    body = mails["Your frames are ready: clip.mp4"].get_body(("plain",))
    assert body is not None
    assert f"{server.url}/api/v1/jobs/{good}/result" in body.get_content() or good in body.get_content()
    failed = mails["No frames from notes.mp4"].get_body(("plain",))
    assert failed is not None
    assert "unsupported_format" in failed.get_content()
