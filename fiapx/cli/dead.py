"""`fiapx dead`: messages that no subscriber could take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiapx.cli import options as flags
from fiapx.cli.help import PlainGroup
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from fiapx.adapters.rabbit_dead import DeadLetter, DeadLetters

dead = typer.Typer(name="dead", cls=PlainGroup, help="Messages that no subscriber could take.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the event.", show_default=False)]


@dead.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 100,
    as_json: flags.AsJson = False,
) -> None:
    """List dead letters, the oldest first.

    Example: fiapx dead list
    """
    terminal, letters = _open(ctx, as_json)
    found = letters.list(limit)
    for letter in found:
        terminal.say(f"{letter.id or '(no event)'}  {letter.queue}  {letter.attempts} attempts  {letter.error}")
    terminal.document({"letters": [_told(letter) for letter in found]})


@dead.command()
def show(ctx: typer.Context, event_id: Id, as_json: flags.AsJson = False) -> None:
    """Show a dead letter with its content.

    Example: fiapx dead show 0b6f0a5e-5d0e-4c41-9d6e-1c1f4f0b8f0e
    """
    terminal, letters = _open(ctx, as_json)
    letter = next((letter for letter in letters.list(10_000) if letter.id == event_id), None)
    if letter is None:
        raise NotFound(f"There is no dead letter {event_id}.")
    for name, value in _told(letter).items():
        terminal.say(f"{name}: {value}")
    terminal.document(_told(letter))


@dead.command()
def requeue(
    ctx: typer.Context,
    event_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Id of an event; all by default.")] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Send dead letters to the queues that they came from.

    Example: fiapx dead requeue
    """
    terminal, letters = _open(ctx, as_json)
    count = letters.requeue(event_id)
    if event_id is not None and not count:
        raise NotFound(f"There is no dead letter {event_id}.")
    terminal.say(f"requeued: {count}")
    terminal.document({"requeued": count})


def _open(ctx: typer.Context, as_json: bool) -> tuple[Terminal, DeadLetters]:
    from fiapx.adapters.rabbit_dead import DeadLetters
    from fiapx.cli.config import load_settings

    terminal: Terminal = ctx.obj
    terminal.json = as_json
    url = load_settings().rabbitmq_url
    if url is None:
        raise UsageError("FIAPX_RABBITMQ_URL is not set", hint="`fiapx up` has no message broker.")
    return terminal, DeadLetters(url.get_secret_value())


def _told(letter: DeadLetter) -> dict[str, Any]:
    content = letter.body.decode("utf-8", "replace")
    return {
        "id": letter.id,
        "queue": letter.queue,
        "attempts": letter.attempts,
        "error": letter.error,
        "content": content,
    }
