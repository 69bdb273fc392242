"""What all who answer for uploads say of tus 1.0.0, https://tus.io/protocols/resumable-upload."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

VERSION: Final = "1.0.0"


class TusHeaders:
    """Every answer below `prefix` tells the protocol's version, refusals too, and is for the moment."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = VERSION
                headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, add if is_below(self._prefix, scope) else send)


def is_below(prefix: str, scope: Scope) -> bool:
    """Whether a request is to this path of the app, or to one under it."""
    if scope["type"] != "http":
        return False
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == prefix or path.startswith(f"{prefix}/")
