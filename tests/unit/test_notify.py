"""From an event to a mail, with retries, on a real SQLite file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, update
from sqlalchemy.event import listens_for
from sqlalchemy.exc import OperationalError

from fiapx.core.errors import (
    CrashLoop,
    DecoderFailed,
    FiapxError,
    MailRejected,
    MediaError,
    NoSpace,
    Unavailable,
    UsageError,
)
from fiapx.core.events import JOB_CANCELLED, JOB_COMPLETED, JOB_FAILED, USER_DELETED, Event
from fiapx.notify import tables
from fiapx.notify.history import History
from fiapx.notify.notifier import BACKOFF, Notifier
from fiapx.notify.render import Renderer
from fiapx.notify.store import NotifyStore
from tests.postgres import Databases

JOB = {
    "job_id": "7b0e", "user_id": "u1", "email": "ana@example.com", "video_name": "clip.mp4", "state": "completed",
    "frames": 12, "size": 1_300_000, "warnings": [], "error_code": None, "error_message": None,
}  # fmt: skip
FAILED = JOB | {"state": "failed", "error_code": "corrupt_media", "error_message": "The video is damaged."}


class Postbox:
    """A mailer that keeps what it gets, after failing as told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tried: list[EmailMessage] = []
        self.mails: list[EmailMessage] = []
        self.rests = False

    def resting(self) -> float:
        return float(self.rests)

    def send(self, message: EmailMessage) -> None:
        self.tried.append(message)
        if self.failures:
            raise self.failures.pop(0)
        self.mails.append(message)


@pytest.fixture
def engine(databases: Databases) -> Engine:
    return databases("notify")


@pytest.fixture
def build(engine: Engine) -> Callable[..., Notifier]:
    def build(postbox: Postbox, **templates: Any) -> Notifier:
        sender = "fiapx <no-reply@fiapx.test>"
        renderer = Renderer(public_url="http://127.0.0.1:8000/", mail_from=sender, **templates)
        return Notifier(engine, postbox, renderer, lease=300)

    return build


def event(type_: str = JOB_COMPLETED, id_: str = "e1", **changes: Any) -> Event:
    data = (FAILED if type_ == JOB_FAILED else JOB) | changes
    return Event(id=id_, type=type_, subject="7b0e", created_ms=1, data=data)


def make_due(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(update(tables.deliveries).values(next_attempt_ms=0))


def rows(engine: Engine) -> list[tuple[str, int]]:
    with engine.connect() as connection:
        query = select(tables.deliveries.c.status, tables.deliveries.c.attempts)
        return [(row.status, row.attempts) for row in connection.execute(query)]


def attempts(engine: Engine) -> list[tuple[int, str, str | None]]:
    with engine.connect() as connection:
        query = select(tables.delivery_log).order_by(tables.delivery_log.c.attempt)
        return [(row.attempt, row.status, row.error) for row in connection.execute(query)]


def render(build: Callable[..., Notifier], event: Event, **templates: Any) -> EmailMessage:
    postbox = Postbox()
    notifier = build(postbox, **templates)
    notifier.handle(event)
    notifier.deliver_due()
    (mail,) = postbox.mails
    return mail


def bodies(mail: EmailMessage) -> tuple[str, str]:
    text, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


def test_migrations_give_the_declared_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_completed_job_gives_one_mail_however_often_it_is_reported(
    engine: Engine, build: Callable[..., Notifier]
) -> None:
    postbox = Postbox()
    notifier = build(postbox)
    for _ in range(3):
        notifier.handle(event())
        notifier.deliver_due()
    (mail,) = postbox.mails
    assert mail["To"] == "ana@example.com"
    assert mail["From"] == "fiapx <no-reply@fiapx.test>"
    assert mail["Subject"] == "Your frames are ready: clip.mp4"
    assert mail["Message-ID"] == "<e1@fiapx.test>"
    for body in bodies(mail):
        assert "12 frames" in body
        assert "1.3 MB" in body
        assert "fiapx download 7b0e" in body
        assert "http://127.0.0.1:8000/api/v1/jobs/7b0e/result" in body
    assert rows(engine) == [("sent", 1)]
    assert attempts(engine) == [(1, "sent", None)]


def test_warnings_and_failures_have_their_own_mails(build: Callable[..., Notifier]) -> None:
    warning = {"code": "source_truncated", "message": "The video ends <early>."}
    mail = render(build, event(warnings=[warning], frames=1))
    assert mail["Subject"] == "Your frames are ready, with warnings: clip.mp4"
    text, html = bodies(mail)
    assert "- The video ends <early>." in text
    assert "1 frame of" in text
    assert "<li>The video ends &lt;early&gt;.</li>" in html

    mail = render(build, event(JOB_FAILED, "e2"))
    assert mail["Subject"] == "No frames from clip.mp4"
    for body in bodies(mail):
        assert "The video is damaged." in body
        assert "corrupt_media" in body
        assert "fiapx retry 7b0e" in body


def test_mails_speak_portuguese(build: Callable[..., Notifier]) -> None:
    mail = render(build, event(warnings=[{"code": "x", "message": "O vídeo <acaba> cedo."}]), language="pt-BR")
    assert mail["Subject"] == "Seus quadros estão prontos, com avisos: clip.mp4"
    text, html = bodies(mail)
    assert text.startswith("12 quadros de clip.mp4 em um ZIP de 1,3 MB.\n")
    assert "- O vídeo <acaba> cedo." in text
    assert "<li>O vídeo &lt;acaba&gt; cedo.</li>" in html
    assert 'lang="pt-BR"' in html
    assert render(build, event(id_="e2"), language="pt-BR")["Subject"] == "Seus quadros estão prontos: clip.mp4"
    causes: list[type[FiapxError]] = [*MediaError.__subclasses__(), CrashLoop, NoSpace]
    for number, cause in enumerate(causes):
        if cause is DecoderFailed:  # its jobs end as a crash loop
            continue
        failed = event(JOB_FAILED, f"f{number}", error_code=cause.code, error_message=cause().message)
        mail = render(build, failed, language="pt-BR")
        assert mail["Subject"] == "Nenhum quadro de clip.mp4"
        for body in bodies(mail):
            assert cause().message not in body
            assert f"({cause.code})" in body


def test_an_operators_templates_stand_in_for_ours(build: Callable[..., Notifier], tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "completed.subject").write_text("ACME: {{ video_name }}\n\n")
    (own / "base.html").write_text("<h1>ACME</h1>{% block content %}{% endblock %}")
    mail = render(build, event(), language="pt-BR", templates=own)
    assert mail["Subject"] == "ACME: clip.mp4"
    text, html = bodies(mail)
    assert text.startswith("12 quadros de clip.mp4")
    assert html.startswith("<h1>ACME</h1>")
    assert "12 quadros" in html
    with pytest.raises(UsageError, match="is no folder"):
        build(Postbox(), templates=own / "nowhere")


@pytest.mark.parametrize(
    "broken",
    [
        b"{{ nobody }}",
        b"{% if %}",
        b"{{ 1 // 0 }}",
        b"\xff",
        b"{{ ''.__class__.__mro__ }}",
        b"{{ warnings.append('x') }}",
        b"{% include 'nothing.txt' %}",
        b"{% include '../en/completed.txt' %}",
    ],
)
def test_a_broken_template_loses_no_mail(
    engine: Engine, build: Callable[..., Notifier], broken: bytes, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "completed.txt").write_bytes(broken)
    mail = render(build, event(), templates=own)
    assert "12 frames of clip.mp4" in bodies(mail)[0]
    assert rows(engine) == [("sent", 1)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\r\nBcc: eve@example.com", r"a\r\nBcc: eve@example.com"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\x1b[31mred\x00", r"\x1b[31mred\x00"),
        ("férias.mp4", "férias.mp4"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("x" * 255, "x" * 255),
    ],
)
def test_names_cannot_play_tricks(build: Callable[..., Notifier], name: str, shown: str) -> None:
    mail = render(build, event(video_name=name))
    assert mail["Subject"] == f"Your frames are ready: {shown}"
    assert mail["Bcc"] is None
    mail.as_bytes()
    text, html = bodies(mail)
    assert shown in text
    assert "<b>bold" not in html


def test_a_job_without_an_address_is_skipped(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox()
    notifier = build(postbox)
    notifier.handle(event(email=None))
    notifier.handle(event(JOB_CANCELLED, "e2"))
    assert notifier.deliver_due() == 0
    assert rows(engine) == [("skipped", 0)]
    assert postbox.tried == []


@pytest.mark.fault(25, "a mail that is put off")
def test_temporary_trouble_is_retried_with_the_same_message_id(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox(Unavailable("451 later"), Unavailable("451 later"))
    notifier = build(postbox)
    notifier.handle(event())
    for _ in range(3):
        assert notifier.deliver_due() == 1
        assert notifier.deliver_due() == 0  # not due yet, or done
        make_due(engine)
    assert len(postbox.mails) == 1
    assert {mail["Message-ID"] for mail in postbox.tried} == {"<e1@fiapx.test>"}
    assert attempts(engine) == [(1, "retry", "451 later"), (2, "retry", "451 later"), (3, "sent", None)]


def test_mails_stay_due_while_the_server_is_left_alone(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox()
    postbox.rests = True
    notifier = build(postbox)
    notifier.handle(event())
    assert [notifier.deliver_due() for _ in range(9)] == [0] * 9
    assert rows(engine) == [("pending", 0)]
    postbox.rests = False
    assert notifier.deliver_due() == 1
    assert attempts(engine) == [(1, "sent", None)]


def test_the_delays_grow_and_the_mail_fails_in_the_end(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox(*[Unavailable("down")] * 9)
    notifier = build(postbox)
    notifier.handle(event())
    delays = []
    while notifier.deliver_due():
        with engine.connect() as connection:
            ended = connection.execute(
                select(tables.delivery_log.c.ended_ms).order_by(tables.delivery_log.c.attempt.desc()).limit(1)
            ).scalar_one()
            due = connection.execute(select(tables.deliveries.c.next_attempt_ms)).scalar_one()
        delays.append(round((due - ended) / 1000))
        make_due(engine)
    assert delays[:-1] == list(BACKOFF)
    assert rows(engine) == [("failed", 6)]
    assert [status for _, status, _ in attempts(engine)] == ["retry"] * 5 + ["failed"]


@pytest.mark.parametrize("address", ["nobody", "a@b.co\r\nBcc: x@y.zz"])
def test_a_bad_address_fails_at_once(engine: Engine, build: Callable[..., Notifier], address: str) -> None:
    postbox = Postbox()
    notifier = build(postbox)
    notifier.handle(event(email=address))
    notifier.deliver_due()
    assert postbox.tried == []
    assert rows(engine) == [("failed", 1)]


def test_a_refused_mail_fails_at_once_and_the_next_one_is_sent(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox(MailRejected("550 no such user"))
    notifier = build(postbox)
    notifier.handle(event())
    notifier.handle(event(id_="e2"))
    assert notifier.deliver_due() == 2
    assert sorted(rows(engine)) == [("failed", 1), ("sent", 1)]
    make_due(engine)
    assert notifier.deliver_due() == 0


def test_a_crash_while_sending_loses_no_mail(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox(KeyboardInterrupt())  # type: ignore[arg-type]
    notifier = build(postbox)
    notifier.handle(event())
    with pytest.raises(KeyboardInterrupt):
        notifier.deliver_due()
    assert notifier.deliver_due() == 0  # another sender may still be at it
    make_due(engine)
    assert build(postbox).deliver_due() == 1
    assert len(postbox.mails) == 1
    assert attempts(engine) == [(1, "started", None), (2, "sent", None)]


def test_a_database_that_goes_away_while_a_mail_is_sent_costs_no_second_one(
    engine: Engine, build: Callable[..., Notifier]
) -> None:
    away = threading.Event()

    @listens_for(engine, "before_cursor_execute")
    def _refuse(*_: object) -> None:
        if away.is_set():
            raise OperationalError("", {}, Exception("the server closed the connection"))

    class Ending(Postbox):
        def send(self, message: EmailMessage) -> None:
            super().send(message)
            away.set()

    postbox = Ending()
    notifier = build(postbox)
    notifier.handle(event())
    for _ in range(2):
        with pytest.raises(OperationalError):
            notifier.deliver_due()
    away.clear()
    make_due(engine)
    assert notifier.deliver_due() == 0
    assert rows(engine) == [("sent", 1)]
    assert len(postbox.mails) == 1


def test_a_sender_that_lost_its_claim_changes_nothing(engine: Engine, build: Callable[..., Notifier]) -> None:
    build(Postbox()).handle(event())
    store = NotifyStore(engine)
    slow = store.claim(300)
    make_due(engine)
    quick = store.claim(300)
    assert slow is not None
    assert quick is not None
    store.finish(quick, "sent")
    store.finish(slow, "failed", "too late")
    assert rows(engine) == [("sent", 2)]


def test_the_loop_delivers_and_stops(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox, stop = Postbox(), threading.Event()
    notifier = build(postbox)
    notifier.handle(event())
    thread = threading.Thread(target=notifier.run, args=(stop,))
    thread.start()
    while rows(engine) != [("sent", 1)]:
        stop.wait(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_deleted_user_is_forgotten_and_gets_no_mail(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox(Unavailable("550 ana@example.com is over quota"))
    notifier = build(postbox)
    notifier.handle(event(id_="e1"))
    notifier.deliver_due()
    notifier.handle(event(id_="e2"))
    notifier.handle(event(id_="e3", user_id="u2", email="bob@example.com"))
    notifier.handle(Event(id="d1", type=USER_DELETED, subject="u1", created_ms=2))
    notifier.handle(event(id_="e2"))  # repeated
    make_due(engine)
    notifier.deliver_due()
    assert [mail["To"] for mail in postbox.mails] == ["bob@example.com"]
    with engine.connect() as connection:
        for table in (tables.deliveries, tables.delivery_log):
            assert "ana" not in str(connection.execute(select(table)).all())


def test_operators_see_what_became_of_each_mail(engine: Engine, build: Callable[..., Notifier]) -> None:
    postbox = Postbox(Unavailable("451 later"), MailRejected("550 no such user"))
    notifier = build(postbox)
    for number in range(4):
        notifier.handle(event(id_=f"e{number}", email=None if number == 3 else f"u{number}@example.com"))
        notifier.deliver_due()
    history = History(engine)
    told = {mail.recipient: mail for mail in history.mails(limit=None)}
    assert {name: (mail.state, mail.reason) for name, mail in told.items()} == {
        "u0@example.com": ("pending", "451 later"),
        "u1@example.com": ("failed", "550 no such user"),
        "u2@example.com": ("sent", ""),
        None: ("skipped", ""),
    }
    waiting = told["u0@example.com"]
    (attempt,) = waiting.attempts
    assert (waiting.job_id, attempt.number, attempt.state) == ("7b0e", 1, "retry")
    assert waiting.next_attempt_ms is not None
    assert attempt.ended_ms is not None
    assert waiting.next_attempt_ms > attempt.ended_ms >= attempt.started_ms
    assert [mail.recipient for mail in history.mails(state="failed", limit=9)] == ["u1@example.com"]
    assert [mail.state for mail in history.mails(recipient="u2@example.com", limit=9)] == ["sent"]
    created = [mail.created_ms for mail in history.mails(limit=2)]
    assert created == sorted((mail.created_ms for mail in told.values()), reverse=True)[:2]
