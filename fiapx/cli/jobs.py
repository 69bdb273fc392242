"""`jobs`, `show`, `watch`, `cancel`, `retry`, `delete` and `videos`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.facts import facts, local_time, row
from fiapx.cli.session import at, session
from fiapx.cli.waiting import announce, describe, wait_for
from fiapx.core.errors import Exit, NotFound
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.cli.api import Api

State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="Only queued, running, completed, failed or cancelled jobs.",
        autocompletion=lambda: ["queued", "running", "completed", "failed", "cancelled"],
    ),
]
Things = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of jobs or videos.", show_default=False)]

_PAGE = 100


def jobs(
    ctx: typer.Context,
    state: State = None,
    limit: flags.Limit = 20,
    everything: flags.All = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """List your jobs, the newest first.

    Example: fiapx jobs --state failed
    """
    with session(ctx, server, as_json) as (terminal, api):
        found = list(_pages(api, "/jobs", None if everything else limit, state=state))
        terminal.table(("JOB", "STATE", "CREATED", "VIDEO", "RESULT"), [row(job) for job in found])
        terminal.document({"jobs": found})


def videos(
    ctx: typer.Context,
    limit: flags.Limit = 20,
    everything: flags.All = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """List your uploaded videos, the newest first.

    Example: fiapx videos --all
    """
    with session(ctx, server, as_json) as (terminal, api):
        found = list(_pages(api, "/videos", None if everything else limit))
        rows = [(video["id"], local_time(video["created_at"]), size(video["size"]), video["name"]) for video in found]
        terminal.table(("VIDEO", "CREATED", "SIZE", "NAME"), rows)
        terminal.document({"videos": found})


def show(ctx: typer.Context, job: flags.Job, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """Show one job.

    Example: fiapx show 6f1c2f0e-… --json
    """
    with session(ctx, server, as_json) as (terminal, api):
        found = api.get(at("jobs", job))
        for name, value in facts(found):
            terminal.say(f"{name + ':':<10} {visible(value)}")
        terminal.document(found)


def watch(ctx: typer.Context, job: flags.Job, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """Follow a job until it ends.

    The exit code is 1 if the job fails. With --json: one document a line, one line an event.

    Example: fiapx watch 6f1c2f0e-…
    """
    from fiapx.cli.following import follow
    from fiapx.cli.problems import job_error

    with session(ctx, server, as_json) as (terminal, api):
        state = None
        last: dict[str, Any] = {}
        with terminal.progress(job) as advance:
            for last in follow(api, job):
                terminal.document(last)
                announce(last, advance)
                if last["state"] != state and not terminal.draws:
                    terminal.say(describe(last))
                state = last["state"]
        if terminal.draws:
            terminal.say(describe(last))
        if error := job_error(last):
            terminal.complain(error)
            raise typer.Exit(Exit.FAILED)


def cancel(ctx: typer.Context, jobs: flags.Jobs, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """Cancel jobs that have not ended.

    Example: fiapx cancel 6f1c2f0e-…
    """
    with session(ctx, server, as_json) as (terminal, api):
        batch = Batch(terminal, key="id")
        for id_ in dict.fromkeys(jobs):

            def work(result: dict[str, Any], id_: str = id_) -> None:
                result["job"] = api.post(at("jobs", id_, "/cancel"))
                terminal.say(f"{visible(id_)}: cancelled")

            batch.attempt(id_, work)
        batch.finish()


def retry(
    ctx: typer.Context,
    job: flags.Job,
    wait: flags.Wait = False,
    timeout: flags.Timeout = None,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run an ended job again.

    It is a new job, for the same video with the same options; see `submit` for other ones.

    Example: fiapx retry 6f1c2f0e-… --wait
    """
    from fiapx.cli.problems import job_error

    with session(ctx, server, as_json) as (terminal, api):
        new = api.create(at("jobs", job, "/retry"))
        terminal.say(f"job {visible(new['id'])}")
        if wait:
            new = wait_for(api, terminal, new["id"], new["id"], timeout)
            terminal.say(describe(new))
            if error := job_error(new):
                raise error
        terminal.document(new)


def delete(ctx: typer.Context, things: Things, server: flags.Server = None, as_json: flags.AsJson = False) -> None:
    """Delete ended jobs with their results, or videos.

    Deleting a video cancels its jobs that have not ended.

    Example: fiapx delete 6f1c2f0e-…
    """
    with session(ctx, server, as_json) as (terminal, api):
        batch = Batch(terminal, key="id")
        for id_ in dict.fromkeys(things):

            def work(result: dict[str, Any], id_: str = id_) -> None:
                result["deleted"] = _delete(api, id_)
                terminal.say(f"{visible(id_)}: {result['deleted']} deleted")

            batch.attempt(id_, work)
        batch.finish()


def _delete(api: Api, id_: str) -> str:
    """Delete the job or the video with this id; which of them it was."""
    for kind in ("job", "video"):
        try:
            api.delete(at(f"{kind}s", id_))
        except NotFound:
            continue
        return kind
    raise NotFound("there is no job and no video with this id")


def _pages(api: Api, path: str, limit: int | None, **query: str | None) -> Iterator[dict[str, Any]]:
    """Up to `limit` items (all for None), page by page."""
    return islice(_items(api, path, min(limit or _PAGE, _PAGE), query), limit)


def _items(api: Api, path: str, page_size: int, query: dict[str, str | None]) -> Iterator[dict[str, Any]]:
    given: dict[str, Any] = {key: value for key, value in query.items() if value is not None}
    given["limit"] = page_size
    while True:
        page = api.get(path, **given)
        yield from page["items"]
        if not page["items"] or not page.get("next_cursor"):
            return
        given["cursor"] = page["next_cursor"]
