"""Roles are replaced one by one, or are away for a while, while uploads keep coming."""

from __future__ import annotations

from pathlib import Path

import httpx

from scripts.stack import RoleProcess, Stack
from tests.stack.kit import API, Logs, User, away, verified
from tests.stack.uploads import Uploads, all_end_once, uploading


def test_every_role_is_replaced_under_load(stack: Stack, ana: User, clip: Path, logs: Logs) -> None:
    """Uploads go where a load balancer would send them: never to a gateway that it has been told to leave alone."""
    with uploading(ana, stack.url, clip) as uploads:
        for name, process in stack.roles.items():
            if name.startswith("gateway"):
                _use_another(stack, uploads, process)
            assert process.stop() == 0
            process.start()
            process.wait()
            uploads.wait_for_more(1)
    print(f"\nrolling restart: {dict(uploads.statuses())}")
    assert set(uploads.statuses()) <= {201, 503}
    assert all(answer.retry_after for answer in uploads.answers if answer.status == 503)
    all_end_once(uploads, logs)
    verified(stack)


def _use_another(stack: Stack, uploads: Uploads, gateway: RoleProcess) -> None:
    (other,) = (process for process in stack.of("gateway") if process is not gateway)
    uploads.url = other.url
    uploads.wait_for_more(2)  # the one under way has ended, and another has come


def test_each_role_starts_without_the_others(stack: Stack) -> None:
    alone = {name: process for name, process in stack.roles.items() if name.endswith("-1")}
    with away(list(stack.roles.values())):
        for process in alone.values():
            process.start()
            process.wait()
            assert httpx.get(f"{process.metrics_url}{API}/health/ready").status_code == 200, process.name
            process.stop()


def test_mails_wait_for_notify_and_come_once(stack: Stack, ana: User, clip: Path, logs: Logs) -> None:
    with away(stack.of("notify")), uploading(ana, stack.url, clip) as uploads:
        uploads.wait_for_more(5)
        for job_id in uploads.jobs:
            ana.completed(job_id)
        assert not set(uploads.jobs) & {told["job_id"] for told in logs.events("notify", "mail_queued")}
    all_end_once(uploads, logs)
