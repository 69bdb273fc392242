"""The extraction options as flags: one for each field of ExtractOptions, written once for all commands."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

from fiapx.cli.help import PlainCommand

_FRAMES: Final = "Which frames"
_CLEANING: Final = "Cleaning"
_PICTURES: Final = "Pictures"


def _flag(kind: Any, panel: str, name: str, metavar: str | None, text: str, values: Sequence[str] = ()) -> Any:
    complete = (lambda: list(values)) if values else None
    option = typer.Option(name, metavar=metavar, help=text, rich_help_panel=panel, autocompletion=complete)
    return Annotated[kind | None, option]


def _choice(panel: str, name: str, values: Sequence[str], text: str) -> Any:
    return _flag(str, panel, name, "|".join(values), f"{text} \\[default: {values[0]}]", values)


def _switch(panel: str, name: str, text: str) -> Any:
    return Annotated[bool, typer.Option(name, help=text, rich_help_panel=panel)]


FLAGS: Final[dict[str, Any]] = {
    "fps": _flag(str, _FRAMES, "--fps", "N", "Frames a second: 2, 0.5, 30000/1001. \\[default: 1]"),
    "every": _flag(str, _FRAMES, "--every", "TIME", "Time between frames: 2s, 1m30s."),
    "step": _flag(int, _FRAMES, "--step", "N", "Every Nth frame."),
    "count": _flag(int, _FRAMES, "--count", "N", "N frames, evenly spread."),
    "at": _flag(str, _FRAMES, "--at", "T,T,…", "Frames at these times: 10,1m30s,50%."),
    "keyframes": _switch(_FRAMES, "--keyframes", "The frames at which decoding can start."),
    "scenes": _flag(str, _FRAMES, "--scenes", "[THRESHOLD]", "First frames of scenes; threshold 0-100. \\[10]"),
    "start": _flag(str, _FRAMES, "--start", "TIME", "First time: 90, 1m30s, 01:02:03.5."),
    "end": _flag(str, _FRAMES, "--end", "TIME", "Times end before this one."),
    "max_frames": _flag(int, _FRAMES, "--max-frames", "N", "Of more frames, N that are evenly spread."),
    "drop_black": _switch(_CLEANING, "--drop-black", "Leave out black frames."),
    "drop_blurred": _switch(_CLEANING, "--drop-blurred", "Leave out blurred frames."),
    "drop_similar": _flag(str, _CLEANING, "--drop-similar", "[PERCENT]", "Leave out frames like the last kept. \\[1]"),
    "width": _flag(int, _PICTURES, "--width", "PX", "Fit into this width, never enlarged."),
    "height": _flag(int, _PICTURES, "--height", "PX", "Fit into this height, never enlarged."),
    "upscale": _switch(_PICTURES, "--upscale", "Let --width and --height enlarge."),
    "format": _choice(_PICTURES, "--format", ("jpg", "png", "webp"), "Image format."),
    "quality": _flag(int, _PICTURES, "--quality", "1-100", "JPEG and WebP quality. \\[default: 90]"),
    "deinterlace": _choice(_PICTURES, "--deinterlace", ("off", "auto", "on"), "auto: frames marked as interlaced."),
    "hdr": _choice(_PICTURES, "--hdr", ("tonemap", "keep"), "keep: 16-bit PNGs of HDR video."),
    "sheet": _switch(_PICTURES, "--sheet", "Add contact sheets and WebVTT."),
    "engine": _choice(_PICTURES, "--engine", ("auto", "fast", "ffmpeg"), "In-process, or FFmpeg's CLI; same pixels."),
}
"""Field of ExtractOptions → the parameter of a command."""

_OPTIONAL_VALUES: Final = frozenset({"--scenes", "--drop-similar"})


def extraction(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all these flags; it gets what was chosen as the keyword argument `chosen`."""

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        values = {name: given.pop(name) for name in FLAGS}
        chosen = {name: value for name, value in values.items() if value is not None and value is not False}
        command(*args, chosen=chosen, **given)

    signature = inspect.signature(command, eval_str=True)
    others = [parameter for parameter in signature.parameters.values() if parameter.name != "chosen"]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=_default(kind))
        for name, kind in FLAGS.items()
    ]
    run.__signature__ = signature.replace(parameters=[*others, *flags])  # type: ignore[attr-defined]  # what Typer reads
    run.__annotations__ = {each.name: each.annotation for each in (*others, *flags)} | {"return": None}
    del run.__wrapped__
    return run


def _default(kind: Any) -> bool | None:
    return False if kind.__origin__ is bool else None


class LenientCommand(PlainCommand):
    """Lets ``--scenes`` and ``--drop-similar`` stand without a value: only a number that follows is theirs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        flags = [_completed(*pair) for pair in itertools.pairwise([*args[:end], ""])]
        return super().parse_args(ctx, [*flags, *args[end:]])


def _completed(word: str, following: str) -> str:
    if word not in _OPTIONAL_VALUES or following.replace(".", "", 1).isdigit():
        return word
    return f"{word}=true"
