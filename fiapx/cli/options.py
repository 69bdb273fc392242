"""Flags that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Videos = Annotated[
    list[str], typer.Argument(metavar="VIDEO", help="Video files, or folders of them.", show_default=False)
]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="VIDEO", help="Videos, folders of them, or - for standard input.", show_default=False),
]
Processes = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, max=256, help="Decode with N processes. \\[default: the cores]"),
]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="Ids of jobs.", show_default=False)]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.", show_default=False)]
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address of the account.", show_default=False)]

AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Estimate = Annotated[bool, typer.Option("--estimate", help="Tell what it would give and take, and write nothing.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave out videos whose output exists.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many at most, the newest first.")]
All = Annotated[bool, typer.Option("--all", help="All of them, without a limit.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Data of `fiapx up`. [env: FIAPX_HOME]")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="OUT", help="A ZIP file, a folder, or - for standard output."),
]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="The server, instead of FIAPX_SERVER or the profile's."),
]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the job has ended; fail if it does.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", min=0, help="Stop waiting after so many seconds (exit code 124)."),
]
