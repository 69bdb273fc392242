"""`upload`, `submit` and `download`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.inputs import expand
from fiapx.cli.outputs import STDOUT, PipeOutput, check_free, sinks_for
from fiapx.cli.selection import extraction
from fiapx.cli.session import at, session
from fiapx.cli.terminal import Terminal
from fiapx.cli.text import plural, safe_stem
from fiapx.cli.waiting import describe, wait_for
from fiapx.core.errors import JobNotFinished, NotFound
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.cli.api import Api

VideoIds = Annotated[list[str], typer.Argument(metavar="VIDEO_ID", help="Ids of videos.", show_default=False)]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do the work again, even if its result is there.")]


@extraction
def upload(
    ctx: typer.Context,
    videos: flags.Videos,
    wait: flags.Wait = False,
    timeout: flags.Timeout = None,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    fresh: Fresh = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Upload videos; the server makes a job of each.

    --wait waits until the jobs have ended. With -o, which implies it, their ZIPs are downloaded too.

    Example: fiapx upload clip.mp4 --fps 2 --wait -o out.zip
    """
    from fiapx.cli.sending import send_video
    from fiapx.core.options import extract_options

    options = extract_options(**chosen)
    inputs = expand(videos)
    with session(ctx, server, as_json) as (terminal, api):
        sinks = sinks_for(inputs.stems, output, terminal, several=inputs.several) if output else {}
        for sink in sinks.values():
            check_free(sink, overwrite=overwrite)
        api.get("/auth/me")  # a log-in that has ended shows now, not after gigabytes
        orders = Orders(terminal, api, sinks, Batch(terminal))
        for video in inputs.stems:
            orders.create(video, partial(send_video, api, Path(video), options, terminal, fresh=fresh))
        orders.finish(timeout, wait=wait)


@extraction
def submit(
    ctx: typer.Context,
    videos: VideoIds,
    wait: flags.Wait = False,
    timeout: flags.Timeout = None,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    fresh: Fresh = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Make jobs of videos that the server has, with other options and without another upload.

    --wait waits until the jobs have ended. With -o, which implies it, their ZIPs are downloaded too.

    Example: fiapx submit 5797f2f8-… --every 5s --wait -o out.zip
    """
    from fiapx.cli.sending import create_job
    from fiapx.core.options import extract_options

    options = extract_options(**chosen).model_dump(mode="json", exclude_unset=True, exclude_none=True)
    with session(ctx, server, as_json) as (terminal, api):
        batch = Batch(terminal, key="id")
        stems: dict[str, str] = {}
        for id_ in dict.fromkeys(videos):

            def look(_result: dict[str, Any], id_: str = id_) -> None:
                stems[id_] = safe_stem(str(_video(api, id_)["name"])) or id_

            batch.attempt(id_, look)
        sinks = sinks_for(stems, output, terminal, several=len(batch.items) > 1) if output and stems else {}
        for sink in sinks.values():
            check_free(sink, overwrite=overwrite)
        orders = Orders(terminal, api, sinks, batch)
        for id_ in stems:
            orders.create(id_, partial(create_job, api, id_, options, fresh=fresh))
        orders.finish(timeout, wait=wait)


def _video(api: Api, id_: str) -> dict[str, Any]:
    try:
        video: dict[str, Any] = api.get(at("videos", id_))
    except NotFound:
        raise NotFound("there is no video with this id", hint="List yours: fiapx videos") from None
    return video


class Orders:
    """The jobs of one command, each for an input, on their way through creation, wait and download."""

    def __init__(self, terminal: Terminal, api: Api, sinks: dict[str, Path | PipeOutput], batch: Batch) -> None:
        self._batch = batch
        self._terminal = terminal
        self._api = api
        self._sinks = sinks

    def create(self, item: str, create: Callable[[], dict[str, Any]]) -> None:
        def work(result: dict[str, Any]) -> None:
            job = result["job"] = create()
            line = f"{item}: job {job['id']}"
            if lender := job.get("reused_from"):
                line += f", with the result of {lender}"
            (self._terminal.note if self._sinks else self._terminal.say)(visible(line))

        self._batch.attempt(item, work)

    def finish(self, timeout: float | None, *, wait: bool) -> None:
        """Wait if it is wanted, download to the sinks, and leave with the exit code."""
        if wait or self._sinks:
            self._wait(timeout)
        for item in self._sinks:
            self._download(item)
        self._batch.finish()

    def _wait(self, timeout: float | None) -> None:
        """Until each job has ended, or the seconds are over for all of them together."""
        from fiapx.cli.problems import job_error

        deadline = None if timeout is None else time.monotonic() + timeout

        for item in self._batch.items:

            def work(result: dict[str, Any], item: str = item) -> None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                job = result["job"] = wait_for(self._api, self._terminal, result["job"]["id"], item, left)
                if error := job_error(job):
                    raise error
                if not self._sinks:
                    self._terminal.say(f"{visible(item)}: {describe(job)}")

            self._batch.attempt(item, work)

    def _download(self, item: str) -> None:
        def work(result: dict[str, Any]) -> None:
            result.update(save(self._api, self._terminal, result["job"], self._sinks[item]))

        self._batch.attempt(item, work)


def download(
    ctx: typer.Context,
    jobs: flags.Jobs,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
) -> None:
    """Download the ZIPs of jobs.

    A broken download goes on where it stopped, and the checksum is verified.
    Without -o each ZIP is named after its video, in the working directory.

    Example: fiapx download 6f1c2f0e-… -o frames/
    """
    with session(ctx, server, as_json) as (terminal, api):
        batch = Batch(terminal, key="id")
        found: dict[str, dict[str, Any]] = {}
        for id_ in dict.fromkeys(jobs):

            def look(_result: dict[str, Any], id_: str = id_) -> None:
                found[id_] = _with_result(api, id_)

            batch.attempt(id_, look)
        stems = {id_: safe_stem(str(job["video"]["name"])) or id_ for id_, job in found.items()}
        for id_, sink in sinks_for(stems, output, terminal, several=len(batch.items) > 1).items():

            def work(result: dict[str, Any], id_: str = id_, sink: Path | PipeOutput = sink) -> None:
                check_free(sink, overwrite=overwrite)
                result.update(save(api, terminal, found[id_], sink))

            batch.attempt(id_, work)
        batch.finish()


def save(api: Api, terminal: Terminal, job: dict[str, Any], sink: Path | PipeOutput) -> dict[str, Any]:
    """Download a completed job's ZIP into `sink`, and say so."""
    from fiapx.cli.fetching import fetch

    result = job["result"]
    where = STDOUT if isinstance(sink, PipeOutput) else str(sink)
    with terminal.progress(where, in_bytes=True) as advance:
        fetch(api, job, sink, advance)
    if where != STDOUT:
        terminal.say(f"{visible(where)}: {plural(result['frames'], 'frame')}, {size(result['size'])}")
    return {"output": where, "frames": result["frames"], "bytes": result["size"], "sha256": result["sha256"]}


def _with_result(api: Api, id_: str) -> dict[str, Any]:
    from fiapx.cli.problems import job_error

    job: dict[str, Any] = api.get(at("jobs", id_))
    if error := job_error(job):
        raise error
    if not job.get("result"):
        raise JobNotFinished(f"the job is {job['state']}; it has no result yet", hint=f"Wait: fiapx watch {id_}")
    return job
