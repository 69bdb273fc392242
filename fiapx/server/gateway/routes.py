"""Which service answers a path, and what its route is called: in logs a thousand paths of one route are alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fastapi import FastAPI
from starlette.routing import compile_path
from starlette.types import ASGIApp

from fiapx.server.proxy import Proxy

_OWN: Final = "gateway"


class Routes:
    """`mounts` are services by path prefix; `paths` are the templates of the documentation."""

    def __init__(self, mounts: Mapping[str, ASGIApp], paths: Iterable[str]) -> None:
        self._services = {prefix: _name(mounts[prefix]) for prefix in sorted(mounts, key=len, reverse=True)}
        paths = list(paths)
        self._fixed = frozenset(path for path in paths if "{" not in path)
        self._templates = [(compile_path(path)[0], path) for path in paths if "{" in path]

    def describe(self, path: str) -> dict[str, str]:
        """The `service`, and the `route` where the path has one."""
        service = next((name for prefix, name in self._services.items() if path.startswith(f"{prefix}/")), _OWN)
        route = self._route(path)
        return {"service": service} | ({"route": route} if route else {})

    def _route(self, path: str) -> str | None:
        if path in self._fixed:
            return path
        return next((template for pattern, template in self._templates if pattern.match(path)), None)


def _name(service: ASGIApp) -> str:
    if isinstance(service, Proxy):
        return service.upstream.name
    return service.title.removeprefix("fiapx ") if isinstance(service, FastAPI) else _OWN
