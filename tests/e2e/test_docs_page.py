"""The documentation page works without anybody else's server."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from tests.e2e.kit import Server, get


def test_the_page_and_all_it_names_come_from_here(server: Server) -> None:
    page = get(f"{server.url}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(named) >= 3
    for name in named:
        address = urljoin(f"{server.url}/docs", name)
        assert urlsplit(address).netloc == urlsplit(server.url).netloc, name
        asset = get(address)
        assert asset.status_code == 200, name
        assert asset.content
    script = next(get(urljoin(server.url, name)).text for name in named if name.endswith("start.js"))
    source = re.search(r'url: "([^"]+)"', script)
    assert source
    document = get(urljoin(server.url, source.group(1))).json()
    assert document["openapi"].startswith("3.")
    assert {"/api/v1/jobs", "/api/v1/videos", "/api/v1/auth/token", "/api/v1/health/live"} <= set(document["paths"])


def test_the_root_leads_there(server: Server) -> None:
    answer = get(f"{server.url}/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_metrics_count_jobs_and_requests(server: Server) -> None:
    text = get(f"{server.url}/metrics").text
    assert "fiapx_jobs" in text
    assert "http_request" in text
