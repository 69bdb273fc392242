"""Making a job of a video: uploaded from the disk, with a bar, as often as it takes; or of one that is there."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fiapx.cli.inputs import VideoFile
from fiapx.cli.resuming import create, fill, offset
from fiapx.cli.terminal import Advance, Terminal
from fiapx.cli.unfinished import Memory, remembered, traits
from fiapx.core.errors import NotFound, Unavailable
from fiapx.core.text import visible

if TYPE_CHECKING:
    from fiapx.cli.api import Api
    from fiapx.core.options import ExtractOptions

_CANDIDATES: Final = 200
_RESUMABLE: Final = 16 * 1024 * 1024
"""Bytes; what is larger is uploaded so that it can go on after a break."""


class _Counted(VideoFile):
    """Reads no more than the file held when it was opened, which is what Content-Length promises."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.size = self.seek(0, 2)
        self.seek(0)
        self.advance: Advance = lambda _done, _total: None

    def read(self, size: int | None = -1, /) -> bytes:
        left = self.size - self.tell()
        data = super().read(left if size is None or size < 0 else min(size, left)) or b""
        self.advance(self.tell(), self.size)
        return data


@dataclass(frozen=True)
class _Order:
    """What is wanted of a video."""

    name: str
    options: dict[str, Any]
    fresh: bool


def send_video(
    api: Api, path: Path, options: ExtractOptions, terminal: Terminal, *, fresh: bool = False
) -> dict[str, Any]:
    """Make a job of a video; returns the job. The video is uploaded unless the server has it.

    A large upload whose connection breaks goes on where it stopped, if need be in another run; a small one starts
    again, under the same Idempotency-Key.
    """
    fields = options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    order = _Order(path.name.encode(errors="replace").decode(), fields, fresh)
    with _Counted(path) as file:
        if file.size > _RESUMABLE:
            return _send_large(api, path, file, order, terminal)
        with terminal.progress(path.name, in_bytes=True) as file.advance:
            return _of_known(api, order, file) or _send_at_once(api, order, file)


def _send_large(api: Api, path: Path, file: _Counted, order: _Order, terminal: Terminal) -> dict[str, Any]:
    account = api.get("/auth/me")["id"]
    identity = api.server, account, *traits(path, file.fileno()), order.options, order.fresh
    with remembered(terminal.environ, *identity) as memory:
        if memory.upload_id is not None and not _is_there(api, memory.upload_id, file, order, terminal):
            memory.forget()
        with terminal.progress(path.name, in_bytes=True) as file.advance:
            job = memory.upload_id is None and _of_known(api, order, file)
            return job or _send_resumably(api, order, file, memory) or _send_at_once(api, order, file)


def _is_there(api: Api, upload_id: str, file: _Counted, order: _Order, terminal: Terminal) -> bool:
    """Whether the server still has an upload of an earlier run; tells how much of it."""
    start = offset(api, upload_id)
    if start:
        terminal.note(f"{visible(order.name)}: resuming at {100 * start // file.size} %")
    return start is not None


def _send_resumably(api: Api, order: _Order, file: _Counted, memory: Memory) -> dict[str, Any] | None:
    """The job; None if the server is too old for this."""
    if memory.upload_id is None:
        upload_id = create(api, order.name, file.size, order.options, fresh=order.fresh)
        if upload_id is None:
            return None
        memory.keep(upload_id)
    assert memory.upload_id is not None
    try:
        job = fill(api, memory.upload_id, file)
    except NotFound:
        memory.forget()
        raise Unavailable("the server has dropped the upload", hint="Run the same command again.") from None
    memory.forget()
    return job


def _send_at_once(api: Api, order: _Order, file: _Counted) -> dict[str, Any]:
    lists = {name: ",".join(value) for name, value in order.options.items() if isinstance(value, list)}
    form = order.options | lists | ({"fresh": "true"} if order.fresh else {})  # a form has each field once
    content = {"file": (order.name, file, "application/octet-stream")}
    job: dict[str, Any] = api.create("/jobs", data=form, files=content)
    return job


def _of_known(api: Api, order: _Order, file: _Counted) -> dict[str, Any] | None:
    """A job of a video that the server has already."""
    video_id = _known(api, order.name, file)
    if video_id is not None:
        with suppress(NotFound):  # deleted since we asked
            return create_job(api, video_id, order.options, fresh=order.fresh)
    return None


def create_job(api: Api, video_id: str, options: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
    """Make a job of a video that the server has; returns the job. Raises NotFound."""
    job: dict[str, Any] = api.create("/jobs", json={"video_id": video_id, "options": options, "fresh": fresh})
    return job


def _known(api: Api, name: str, file: _Counted) -> str | None:
    """The id of the user's upload with this name and these bytes. They are read where there is one of their size."""
    found = api.get("/videos", size=file.size, limit=_CANDIDATES)["items"]
    ids = {video["sha256"]: str(video["id"]) for video in found if video["name"] == name}
    if not ids:
        return None
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return ids.get(sha256)
