"""Many people who upload at once, each with the client of the product, which is run again where it gives up."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from fiapx.cli.api import Api
from fiapx.cli.fetching import fetch
from fiapx.cli.sending import send_video
from fiapx.cli.terminal import Terminal
from fiapx.core.errors import RateLimited, Unavailable
from fiapx.core.options import extract_options
from tests.stack.kit import User

MB = 1_000_000
_PAUSE = 0.5


class Uploader:
    """One of them. `jobs` are those that the client has told of; `again` counts the commands that were run again."""

    def __init__(self, user: User, url: str, folder: Path, seed: int) -> None:
        self.user = user
        self.jobs: list[str] = []
        self.again = 0
        self._folder, self._choice = folder, random.Random(seed)
        folder.mkdir()
        environ = {"XDG_STATE_HOME": str(folder), "FIAPX_TOKEN": str(user.tokens["access_token"])}
        self._api = Api.open(url, environ | {"FIAPX_CONFIG": str(folder / "profile.json")})
        self._terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO(), environ)

    def __enter__(self) -> Uploader:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.__exit__()

    def upload(self, clip: bytes, count: int, seconds: float) -> None:
        """So many videos of 1 to 20 MB, spread over so many seconds."""
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number * seconds / count - time.monotonic()))
            path = self._folder / f"{number}.mp4"
            path.write_bytes(padded(clip, self._choice.randrange(MB, 20 * MB), self._choice))
            self.jobs.append(self._send(path, fps="25" if number % 5 == 0 else "5"))
            path.unlink()

    def download(self, job: dict[str, Any]) -> int:
        """How many frames a job's ZIP has, all of them as its manifest says."""
        path = self._folder / f"{job['id']}.zip"
        fetch(self._api, job, path, lambda _done, _total: None)
        frames = whole(path)
        path.unlink()
        return frames

    def _send(self, path: Path, **options: str) -> str:
        while True:
            try:
                return str(send_video(self._api, path, extract_options(**options), self._terminal)["id"])
            except (Unavailable, RateLimited):
                self.again += 1
                time.sleep(_PAUSE)


def padded(clip: bytes, size: int, choice: random.Random) -> bytes:
    """A clip like no other, of so many bytes: the rest is a box that players skip (ISO/IEC 14496-12, ``free``)."""
    length = max(8, size - len(clip))
    return clip + struct.pack(">I4s", length, b"free") + choice.randbytes(length - 8)


def whole(path: Path) -> int:
    """The number of frames in a ZIP that is sound."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        frames = json.loads(archive.read("manifest.json"))["frames"]
        for frame in frames:
            assert sha256(archive.read(frame["file"])).hexdigest() == frame["sha256"]
        assert {frame["file"] for frame in frames} == {name for name in archive.namelist() if name.startswith("frame_")}
    return len(frames)


def upload_all(crowd: Sequence[Uploader], clip: Path, uploads: int, seconds: float) -> None:
    """All at once, until the last video is taken."""
    content = clip.read_bytes()
    with ThreadPoolExecutor(len(crowd)) as threads:
        for done in [threads.submit(one.upload, content, uploads // len(crowd), seconds) for one in crowd]:
            done.result()
