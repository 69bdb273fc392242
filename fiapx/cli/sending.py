"""Uploading a video: streamed from the disk, with a bar, as often as it takes to get one job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiapx.cli.inputs import VideoFile
from fiapx.cli.terminal import Advance, Terminal

if TYPE_CHECKING:
    from fiapx.cli.api import Api
    from fiapx.core.options import ExtractOptions


class _Counted(VideoFile):
    """Reads no more than the file held when it was opened, which is what Content-Length promises."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self._size = self.seek(0, 2)
        self.seek(0)
        self._advance = advance

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._size - self.tell()
        data = super().read(left if size is None or size < 0 else min(size, left)) or b""
        self._advance(self.tell(), self._size)
        return data


def send_video(api: Api, path: Path, options: ExtractOptions, terminal: Terminal) -> dict[str, Any]:
    """Upload a video and make a job of it; returns the job. A connection that breaks starts the upload again, under
    the same Idempotency-Key."""
    fields = options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    name = path.name.encode(errors="replace").decode()
    with terminal.progress(path.name, in_bytes=True) as advance, _Counted(path, advance) as file:
        job: dict[str, Any] = api.create("/jobs", data=fields, files={"file": (name, file, "application/octet-stream")})
    return job
