"""Flags that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

_FRAMES = "Which frames"
_PICTURES = "Pictures"

Fps = Annotated[
    str | None,
    typer.Option(
        "--fps", metavar="N", help="Frames a second: 2, 0.5, 30000/1001. \\[default: 1]", rich_help_panel=_FRAMES
    ),
]
Every = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", help="Time between frames instead: 2s, 1m30s.", rich_help_panel=_FRAMES),
]
Start = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", help="First time: 90, 1m30s, 01:02:03.5.", rich_help_panel=_FRAMES),
]
End = Annotated[
    str | None,
    typer.Option("--end", metavar="TIME", help="Times end before this one.", rich_help_panel=_FRAMES),
]
Width = Annotated[
    int | None,
    typer.Option("--width", metavar="PX", help="Scale down to this width; never up.", rich_help_panel=_PICTURES),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="jpg|png",
        help="Image format. \\[default: jpg]",
        rich_help_panel=_PICTURES,
        autocompletion=lambda: ["jpg", "png"],
    ),
]
Quality = Annotated[
    int | None,
    typer.Option("--quality", metavar="1-100", help="JPEG quality. \\[default: 90]", rich_help_panel=_PICTURES),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="auto|fast|ffmpeg",
        help="Decode in-process or with FFmpeg's CLI; same pixels. \\[default: auto]",
        rich_help_panel=_PICTURES,
        autocompletion=lambda: ["auto", "fast", "ffmpeg"],
    ),
]

Videos = Annotated[list[str], typer.Argument(metavar="VIDEO", help="Video files.", show_default=False)]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="Ids of jobs.", show_default=False)]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.", show_default=False)]
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address of the account.", show_default=False)]

AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
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
