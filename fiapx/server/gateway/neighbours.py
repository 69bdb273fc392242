"""The health of services elsewhere, and of what they depend on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from pydantic import ValidationError

from fiapx.core.errors import Unavailable
from fiapx.server.gateway.health import CheckResult, Checks, HealthReport, merge
from fiapx.server.proxy import Upstream
from fiapx.server.proxy.instance import Instance

log = structlog.get_logger(__name__)

PATIENCE: Final = 1.75
"""Seconds: services wait 1.5 for their own checks, and monitors give up on the gateway after two."""


async def ask(upstreams: Iterable[Upstream], patience: float = PATIENCE) -> Checks:
    """One result for each service, and the worst one for each thing that any of their instances depends on."""
    found = await asyncio.gather(*(_ask(upstream, patience) for upstream in upstreams))
    merged: Checks = {}
    for checks in found:
        merged = merge(merged, checks)
    return merged


async def _ask(upstream: Upstream, patience: float) -> Checks:
    clock = asyncio.get_running_loop().time
    started = clock()
    answers = await asyncio.gather(*(_report(instance, upstream, patience) for instance in upstream.instances))
    reports = [answer for answer in answers if isinstance(answer, HealthReport)]
    failures = [answer for answer in answers if isinstance(answer, Unavailable)]
    count = f"{len(reports)} of {len(answers)} instances answer." if failures else None
    merged: Checks = {
        upstream.name: CheckResult(
            status="ok" if reports else "failing",
            latency_ms=round((clock() - started) * 1000, 1),
            detail=count if reports or len(answers) > 1 else failures[0].message,
        )
    }
    for report in reports:
        merged = merge(merged, report.checks)
    return merged


async def _report(instance: Instance, upstream: Upstream, patience: float) -> HealthReport | Unavailable:
    try:
        return HealthReport.model_validate(await instance.report(upstream.health_path, patience))
    except Unavailable as error:
        return error
    except ValidationError as error:
        log.warning("upstream_health_unknown", instance=instance.url, error=repr(error))
        return Unavailable("The service answers something else than expected.")
