"""A whole JSON answer in memory: to be told with an ETag, kept, and told again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Send

MARK: Final = "fiapx-cache"
"""The header by which a service says for how many seconds an answer may be kept. Never told to clients."""

_MAX: Final = 512 * 1024
_DETAILS: Final = {"hit": "fiapx; hit", "stale": "fiapx; hit; detail=stale", "miss": "fiapx; fwd=miss"}


@dataclass(frozen=True)
class Answer:
    """`ttl` are the seconds that it may be kept, and `at` is when it was given."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ttl: float = 0
    at: float = 0

    @property
    def may_be_kept(self) -> bool:
        return self.status == 200 and self.ttl > 0

    def dumps(self) -> bytes:
        return json.dumps([self.status, self.headers, self.at]).encode() + b"\n" + self.body

    @classmethod
    def loads(cls, kept: bytes) -> Self:
        head, _, body = kept.partition(b"\n")
        status, headers, at = json.loads(head)
        return cls(status, tuple((name, value) for name, value in headers), body, at=at)

    def response(self, asked: Headers, result: str) -> Response:
        """For a request with these headers. `result` is what the cache had: hit, miss or stale."""
        known = self.status == 200 and self._is_known(asked.get("if-none-match", ""))
        response = Response(b"" if known else self.body, 304 if known else self.status)
        response.raw_headers = [(name.encode(), value.encode("latin-1")) for name, value in self.headers]
        headers = MutableHeaders(raw=response.raw_headers)
        if known:
            del headers["content-length"], headers["content-type"]
        else:
            headers["Content-Length"] = str(len(self.body))
        headers["Cache-Status"] = _DETAILS[result]
        if self.at:
            headers["Age"] = str(max(0, int(time.time() - self.at)))
        if self.status == 200:
            headers.setdefault("ETag", self._etag())
            headers.setdefault("Cache-Control", "private, no-cache")
        response.raw_headers = headers.raw
        return response

    def _etag(self) -> str:
        """Weak, since the answer may be compressed on its way."""
        return f'W/"{hashlib.blake2b(self.body, digest_size=16).hexdigest()}"'

    def _is_known(self, if_none_match: str) -> bool:
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        own = dict(self.headers).get("etag") or self._etag()
        return "*" in tags or own.removeprefix("W/") in tags


class Recorder:
    """A `send` that holds back a JSON answer of moderate size, and lets all others pass. `answer` is the whole one."""

    def __init__(self, send: Send, on_passing: Callable[[], None]) -> None:
        """`on_passing` is called when an answer will not be held back."""
        self._send, self._on_passing = send, on_passing
        self._start: Message | None = None
        self._body = bytearray()
        self.answer: Answer | None = None
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._start is None:
            await self._send(message)
        else:
            await self._add(self._start, message)

    async def _begin(self, message: Message) -> None:
        headers = Headers(raw=message["headers"])
        json_like = headers.get("content-type", "").startswith("application/json")
        size = headers.get("content-length", "0")
        if json_like and "content-encoding" not in headers and size.isdigit() and int(size) <= _MAX:
            self._start = message
            if not _seconds(headers):
                self._on_passing()
            return
        await self._pass(message)

    async def _add(self, start: Message, message: Message) -> None:
        self._body += message.get("body", b"")
        if len(self._body) > _MAX:
            self._start = None
            await self._pass(start)
            await self._send({**message, "body": bytes(self._body)})
        elif not message.get("more_body", False):
            headers = Headers(raw=start["headers"])
            pairs = tuple((name, value) for name, value in headers.items() if name != MARK)
            self.answer = Answer(start["status"], pairs, bytes(self._body), _seconds(headers))

    async def _pass(self, message: Message) -> None:
        self._on_passing()
        self.started = True
        await self._send(message)


def _seconds(headers: Headers) -> float:
    text = headers.get(MARK, "")
    return float(text) if text.isascii() and text.isdigit() else 0
