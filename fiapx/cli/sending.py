"""Making a job of a video: uploaded from the disk, with a bar, as often as it takes; or of one that is there."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fiapx.cli.inputs import VideoFile
from fiapx.cli.terminal import Advance, Terminal
from fiapx.core.errors import NotFound

if TYPE_CHECKING:
    from fiapx.cli.api import Api
    from fiapx.core.options import ExtractOptions

_CANDIDATES: Final = 200


class _Counted(VideoFile):
    """Reads no more than the file held when it was opened, which is what Content-Length promises."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self.size = self.seek(0, 2)
        self.seek(0)
        self._advance = advance

    def read(self, size: int | None = -1, /) -> bytes:
        left = self.size - self.tell()
        data = super().read(left if size is None or size < 0 else min(size, left)) or b""
        self._advance(self.tell(), self.size)
        return data


def send_video(
    api: Api, path: Path, options: ExtractOptions, terminal: Terminal, *, fresh: bool = False
) -> dict[str, Any]:
    """Make a job of a video; returns the job. The video is uploaded unless the server has it.

    A connection that breaks starts the upload again, under the same Idempotency-Key.
    """
    fields = options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    name = path.name.encode(errors="replace").decode()
    with terminal.progress(path.name, in_bytes=True) as advance, _Counted(path, advance) as file:
        if (video_id := _known(api, name, file)) is not None:
            with suppress(NotFound):  # deleted since we asked
                return create_job(api, video_id, fields, fresh=fresh)
        lists = {name: ",".join(value) for name, value in fields.items() if isinstance(value, list)}
        form = fields | lists | ({"fresh": "true"} if fresh else {})  # a form has each field once
        job: dict[str, Any] = api.create("/jobs", data=form, files={"file": (name, file, "application/octet-stream")})
    return job


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
