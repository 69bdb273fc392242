"""What a request causes in any role is one trace, and the lines in all logs have its id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.stack import Stack
from tests.collector import Collector, Seen
from tests.processing_kit import eventually
from tests.stack.kit import API, PASSWORD, Logs, User
from tests.stack.test_private_routes import NOTHING

PATIENCE = 60
Step = tuple[str, str]
"""The service, and the name of a span."""


@pytest.fixture
def trace() -> str:
    """The id of a trace that a client has begun."""
    return secrets.token_hex(16)


def _from(trace: str) -> dict[str, str]:
    """The header by which a client hands its trace on."""
    return {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


def _complete(collector: Collector, trace: str, steps: Collection[Step]) -> list[Seen]:
    """A trace, once all these steps of it have arrived."""
    eventually(lambda: set(steps) <= {(span.service, span.name) for span in collector.trace(trace)}, PATIENCE)
    return collector.trace(trace)


def _ancestry(spans: list[Seen], leaf: Seen) -> list[Step]:
    """From the trace's beginning to this span."""
    by_id, found = {span.id: span for span in spans}, [leaf]
    while found[0].parent in by_id:
        found.insert(0, by_id[found[0].parent])
    return [(span.service, span.name) for span in found]


def test_a_log_in_goes_through_gateway_and_auth_to_postgresql(
    stack: Stack, ana: User, collector: Collector, logs: Logs, trace: str
) -> None:
    form = {"username": ana.email, "password": PASSWORD}
    url = f"{stack.url}{API}/auth/token"
    httpx.post(url, data=form, headers=_from(trace), params={"word": "sesame"}).raise_for_status()
    route, select = "POST /api/v1/auth/token", ("auth", "SELECT postgresql")
    spans = _complete(collector, trace, {select, ("auth", route), ("gateway", "POST /api/v1/auth/{path}")})
    accounts = next(span for span in spans if "FROM users" in span.attributes.get("db.query.text", ""))
    way = [("gateway", "POST /api/v1/auth/{path}"), ("gateway", "POST auth"), ("auth", route), select]
    assert _ancestry(spans, accounts) == way
    assert accounts.attributes["db.namespace"] == "auth"
    (line,) = [told for told in logs.events("gateway", "request") if told.get("trace_id") == trace]
    assert (line["service"], line["route"], line["status"]) == ("auth", "/api/v1/auth/token", 200)
    for told in (collector.raw().decode("latin-1"), "\n".join(line for _, line in logs.lines)):
        assert not [secret for secret in (PASSWORD, ana.email, "sesame") if secret in told]


def test_an_upload_and_all_that_follows_up_to_the_mail_is_one_trace(
    stack: Stack, ana: User, clip: Path, collector: Collector, logs: Logs, trace: str
) -> None:
    with clip.open("rb") as file:
        answer = ana.client.post("/jobs", files={"file": ("clip.mp4", file)}, data={"fps": "2"}, headers=_from(trace))
    job = ana.completed(answer.raise_for_status().json()["id"])
    upload = [("gateway", "POST /api/v1/{path}"), ("gateway", "POST processing"), ("processing", "POST /api/v1/jobs")]
    queued, work = [*upload, ("processing", "publish job.queued")], [*upload, ("worker", "job")]
    told = [*work, ("processing", "publish job.completed"), ("notify", "process job.completed")]
    steps = {*told, *queued, ("worker", "claim"), ("worker", "extract"), ("worker", "store"), ("notify", "send mail")}
    spans = _complete(collector, trace, {*steps, ("notify", "mail")})
    by_step = {(span.service, span.name): span for span in spans}
    assert _ancestry(spans, by_step["processing", "publish job.queued"]) == queued
    assert _ancestry(spans, by_step["worker", "extract"]) == [*work, ("worker", "extract")]
    assert _ancestry(spans, by_step["notify", "send mail"]) == [*told, ("notify", "mail"), ("notify", "send mail")]
    assert by_step["worker", "job"].attributes["fiapx.job.id"] == job["id"]
    assert by_step["processing", "INSERT postgresql"].parent == by_step[upload[-1]].id
    assert ana.email not in collector.raw().decode("latin-1")
    told_by = {name.rpartition("-")[0] for name, line in list(logs.lines) if trace in line}
    assert told_by >= {"gateway", "processing", "worker", "notify"}


def test_every_route_leads_to_its_service(stack: Stack, collector: Collector, logs: Logs) -> None:
    paths: dict[str, dict[str, Any]] = httpx.get(f"{stack.url}/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods if "/health/" not in path]
    assert len(routes) > 20
    traces = {_asked(stack, method, path): (method, path) for method, path in routes}
    expected = {
        trace: "auth" if path.startswith(f"{API}/auth/") else "processing" for trace, (_, path) in traces.items()
    }
    eventually(lambda: _answered(collector).keys() >= traces.keys(), PATIENCE)
    assert {trace: services for trace, services in _answered(collector).items() if trace in traces} == {
        trace: {service} for trace, service in expected.items()
    }
    lines = {line["trace_id"]: line for line in logs.events("gateway", "request") if line.get("trace_id") in traces}
    assert {trace: (line["service"], line["method"], line["route"]) for trace, line in lines.items()} == {
        trace: (expected[trace], *route) for trace, route in traces.items()
    }


def _answered(collector: Collector) -> dict[str, set[str]]:
    """Which services answered what gateways sent on, by trace."""
    spans = collector.spans()
    sent = {span.id for span in spans if span.service == "gateway" and "service.peer.name" in span.attributes}
    found: dict[str, set[str]] = {}
    for span in spans:
        if span.parent in sent:
            found.setdefault(span.trace, set()).add(span.service)
    return found


def _asked(stack: Stack, method: str, path: str) -> str:
    """The trace of a request by somebody of whom there is nothing else."""
    trace = secrets.token_hex(16)
    with User.registered(stack.url) as user:
        user.client.request(method, stack.url + re.sub(r"\{\w+\}", NOTHING, path), headers=_from(trace))
    return trace


def test_a_statement_that_fails_is_marked_and_says_nothing_of_its_values(
    stack: Stack, ana: User, collector: Collector, trace: str
) -> None:
    account = {"email": ana.email, "password": PASSWORD}
    assert httpx.post(f"{stack.url}{API}/auth/register", json=account, headers=_from(trace)).status_code == 409
    spans = _complete(collector, trace, {("auth", "INSERT postgresql"), ("auth", "POST /api/v1/auth/register")})
    (insert,) = [span for span in spans if span.name == "INSERT postgresql"]
    assert insert.attributes["error.type"] == "UniqueViolation"
    assert ana.email not in collector.raw().decode("latin-1")
