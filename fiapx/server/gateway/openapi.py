"""One OpenAPI document for all services, and the page that shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fiapx API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""
_CSP: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline script: what a service writes into its descriptions cannot run. Swagger UI does set inline styles."""


def merge_openapi(document: dict[str, Any], mounted: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Add documents of other apps, each under its prefix. A schema gets another name where its own is taken."""
    merged: dict[str, Any] = json.loads(json.dumps(document))
    components = merged.setdefault("components", {})
    for prefix, other in mounted.items():
        addition = _without_clashes(other, components.get("schemas", {}), prefix)
        merged["paths"].update({prefix + path: item for path, item in addition["paths"].items()})
        for kind, entries in addition.get("components", {}).items():
            components.setdefault(kind, {}).update(entries)
    return merged


def _without_clashes(document: dict[str, Any], taken: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    schemas = document.get("components", {}).get("schemas", {})
    service = prefix.rpartition("/")[2].title()
    renamed = {name: service + name for name in schemas if name in taken and taken[name] != schemas[name]}
    text = json.dumps(document)
    for name, new in renamed.items():
        text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{new}"')
    copy: dict[str, Any] = json.loads(text)
    for name, new in renamed.items():
        copy["components"]["schemas"][new] = copy["components"]["schemas"].pop(name)
    return copy


def docs_router() -> APIRouter:
    """``/docs``: Swagger UI, served from here and not from somebody's CDN."""
    router = APIRouter(include_in_schema=False)
    folder = Path(str(resources.files("fastapi_swagger") / "resources"))

    @router.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CSP})

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    for name, media_type in _ASSETS.items():
        router.add_api_route(f"/docs/{name}", _asset(folder / name, media_type), name=name)
    return router


def _asset(path: Path, media_type: str) -> Any:
    async def asset() -> Response:
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": "public, max-age=3600"})

    return asset
