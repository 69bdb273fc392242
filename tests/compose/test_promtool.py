"""Prometheus' own tool judges the configuration, the alerts and what the roles tell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest

from scripts.servers.process import program
from tests.compose.composed import COMPOSE, ROLES, ROOT, read_yaml
from tests.compose.running import Composed
from tests.servers import required

RULES = {rule["alert"] for rule in read_yaml(COMPOSE / "prometheus" / "alerts.yml")["groups"][0]["rules"]}
TESTS = Path(__file__).with_name("alerts.test.yml")


def _promtool(*arguments: str, stdin: str = "") -> None:
    with required():
        tool = program("prometheus", "/usr/bin/promtool")
    done = subprocess.run([str(tool), *arguments], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_right() -> None:
    _promtool("check", "config", str(COMPOSE / "prometheus" / "prometheus.yml"))


def test_each_alert_fires_by_its_cause() -> None:
    _promtool("test", "rules", str(TESTS))
    tested = {
        case["alertname"]
        for test in read_yaml(TESTS)["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert tested == RULES


def test_each_alert_is_explained() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("### Alerts")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([A-Z][a-zA-Z]+)`", section)) == RULES


@pytest.mark.parametrize("role", ROLES)
def test_metrics_are_well_formed(composed: Composed, role: str) -> None:
    _promtool("check", "metrics", stdin=httpx.get(f"{composed.roles[role].metrics_url}/metrics").text)
