"""`upload` and `download`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.batch import Batch
from fiapx.cli.outputs import STDOUT, PipeOutput, check_free, sinks_for
from fiapx.cli.selection import extraction
from fiapx.cli.session import at, session
from fiapx.cli.terminal import Terminal
from fiapx.cli.text import plural, safe_stem
from fiapx.cli.waiting import describe, wait_for
from fiapx.core.errors import JobNotFinished
from fiapx.core.text import size, visible

if TYPE_CHECKING:
    from fiapx.cli.api import Api
    from fiapx.core.options import ExtractOptions


@extraction
def upload(
    ctx: typer.Context,
    videos: flags.Videos,
    wait: flags.Wait = False,
    timeout: flags.Timeout = None,
    output: flags.Output = None,
    overwrite: flags.Overwrite = False,
    server: flags.Server = None,
    as_json: flags.AsJson = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Upload videos; the server makes a job of each.

    --wait waits until the jobs have ended. With -o, which implies it, their ZIPs are downloaded too.

    Example: fiapx upload clip.mp4 --fps 2 --wait -o out.zip
    """
    from fiapx.core.options import extract_options

    options = extract_options(**chosen)
    videos = list(dict.fromkeys(videos))
    with session(ctx, server, as_json) as (terminal, api):
        sinks = sinks_for({video: Path(video).stem for video in videos}, output, terminal) if output else {}
        for sink in sinks.values():
            check_free(sink, overwrite=overwrite)
        api.get("/auth/me")  # a log-in that has ended shows now, not after gigabytes
        uploads = Uploads(terminal, api, sinks)
        for video in videos:
            uploads.send(video, options)
        if wait or output:
            uploads.wait(timeout)
        for video in sinks:
            uploads.download(video)
        uploads.batch.finish()


class Uploads:
    """The videos of one command, on their way through upload, wait and download."""

    def __init__(self, terminal: Terminal, api: Api, sinks: dict[str, Path | PipeOutput]) -> None:
        self.batch = Batch(terminal)
        self._terminal = terminal
        self._api = api
        self._sinks = sinks

    def send(self, video: str, options: ExtractOptions) -> None:
        from fiapx.cli.sending import send_video

        def work(result: dict[str, Any]) -> None:
            result["job"] = send_video(self._api, Path(video), options, self._terminal)
            line = visible(f"{video}: job {result['job']['id']}")
            (self._terminal.note if self._sinks else self._terminal.say)(line)

        self.batch.attempt(video, work)

    def wait(self, timeout: float | None) -> None:
        """Until each job has ended, or the seconds are over for all of them together."""
        from fiapx.cli.problems import job_error

        deadline = None if timeout is None else time.monotonic() + timeout

        def work(result: dict[str, Any]) -> None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            job = result["job"] = wait_for(self._api, self._terminal, result["job"]["id"], result["input"], left)
            if error := job_error(job):
                raise error
            if not self._sinks:
                self._terminal.say(f"{visible(result['input'])}: {describe(job)}")

        for video in self.batch.items:
            self.batch.attempt(video, work)

    def download(self, video: str) -> None:
        def work(result: dict[str, Any]) -> None:
            result.update(save(self._api, self._terminal, result["job"], self._sinks[video]))

        self.batch.attempt(video, work)


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
