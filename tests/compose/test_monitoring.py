"""A real Prometheus asks the running roles and servers; alerts and dashboards find what they look for."""

from __future__ import annotations

import json
import re
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.compose.composed import COMPOSE, ROLES, read_yaml
from tests.compose.running import Composed
from tests.media.clips import X264, Clip
from tests.processing_kit import eventually
from tests.stack.kit import User

DASHBOARD = json.loads((COMPOSE / "grafana" / "dashboards" / "fiapx.json").read_text())
ALERTS = {rule["alert"]: rule for rule in read_yaml(COMPOSE / "prometheus" / "alerts.yml")["groups"][0]["rules"]}
TARGETS = [*DASHBOARD["panels"], DASHBOARD["annotations"]["list"][0]]


OPERATIONS = (COMPOSE.parent / "docs" / "operations.md").read_text()
SCALING = [
    trigger["metadata"]["query"]
    for block in re.findall(r"```yaml\n(apiVersion: keda.*?)```", OPERATIONS, re.DOTALL)
    for scaled in YAML(typ="safe").load_all(block)
    for trigger in scaled["spec"]["triggers"]
]
"""What KEDA would ask."""
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.fixture(scope="module")
def used(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> Composed:
    """A user has come and gone, so that there is something to see."""
    clip = Clip("clip.mp4", (*X264, "-g", "25")).make(tmp_path_factory.mktemp("clips"))
    with User.registered(composed.roles["gateway"].url) as ana:
        ana.completed(ana.upload(clip)["id"])
        for _ in range(3):
            ana.client.get("/jobs").raise_for_status()
        assert ana.client.post("/jobs", content=b"").status_code >= 400
    return composed


def test_all_targets_are_up(composed: Composed) -> None:
    def up() -> dict[str, str]:
        return {sample["metric"]["job"]: sample["value"][1] for sample in composed.prometheus.query("up")}

    expected = {*ROLES, "rabbitmq", "postgres", "redis", "node", "prometheus"}
    eventually(lambda: up() == dict.fromkeys(expected, "1"), 30)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_panel_shows_something(used: Composed, expression: str) -> None:
    query = expression.replace("$__rate_interval", "30s")
    eventually(lambda: bool(used.prometheus.query(query)), 30)


@pytest.mark.parametrize("query", SCALING)
def test_every_query_that_scales_has_an_answer(used: Composed, query: str) -> None:
    def answer() -> list[str]:
        return [sample["value"][1] for sample in used.prometheus.query(query)]

    eventually(lambda: len(answer()) == 1 and float(answer()[0]) >= 0, 90)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_looks_at_what_exists(used: Composed, name: str) -> None:
    expression = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^]]*\]|by \([^)]*\)", "", ALERTS[name]["expr"])
    metrics = {word for word in re.findall(r"[a-z]\w+", expression) if "_" in word or word == "up"} - {
        "histogram_quantile"
    }
    assert metrics
    for metric in metrics:
        eventually(partial(_known, used, metric), 30)


def _known(composed: Composed, metric: str) -> bool:
    return metric in composed.prometheus.get("label/__name__/values")


def test_all_rules_are_evaluated(composed: Composed) -> None:
    def health() -> set[tuple[str, str]]:
        groups = composed.prometheus.get("rules")["groups"]
        return {(rule["name"], rule["health"]) for group in groups for rule in group["rules"]}

    eventually(lambda: health() == {(name, "ok") for name in ALERTS}, 30)


def test_a_role_that_stops_is_told_and_forgotten_when_it_is_back(composed: Composed) -> None:
    notify = composed.roles["notify"]
    eventually(lambda: not _firing(composed), 30)
    notify.stop()
    try:
        eventually(lambda: ("TargetDown", "notify") in _firing(composed), 30)
        eventually(lambda: "[FIRING" in _mail_about(composed, "TargetDown"), 30)
    finally:
        notify.start()
        notify.wait()
    eventually(lambda: not _firing(composed), 30)
    eventually(lambda: "[RESOLVED]" in _mail_about(composed, "TargetDown"), 30)


def _mail_about(composed: Composed, alert: str) -> str:
    """The newest subject that the operators have got."""
    mails = [message_from_bytes(mail.content) for mail in composed.mails if mail.rcpt_tos == ["operators@localhost"]]
    return next((mail["Subject"] for mail in reversed(mails) if alert in mail["Subject"]), "")


def _firing(composed: Composed) -> set[tuple[str, str | None]]:
    alerts: list[dict[str, Any]] = composed.prometheus.get("alerts")["alerts"]
    return {(alert["labels"]["alertname"], alert["labels"].get("job")) for alert in alerts}


def test_what_was_seen_survives_a_restart(composed: Composed) -> None:
    prometheus = composed.prometheus
    eventually(lambda: len(prometheus.query("up")) >= len(ROLES), 30)
    before = prometheus.get("query", query="time()")["result"][1]
    prometheus.stop()
    prometheus.start()
    asked = partial(prometheus.get, "query", query='up{job="gateway"}', time=str(before))
    eventually(lambda: bool(asked()["result"]), 30)


def test_grafana_asks_the_provisioned_source_often_enough() -> None:
    [source] = read_yaml(COMPOSE / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    named = {
        item["datasource"]["uid"]
        for panel in TARGETS
        for item in [panel, *panel.get("targets", [])]
        if "datasource" in item
    }
    assert named == {source["uid"]}
    config = read_yaml(COMPOSE / "prometheus" / "prometheus.yml")["global"]
    assert _seconds(DASHBOARD["refresh"]) <= 10
    assert _seconds(config["scrape_interval"]) <= 15
    assert _seconds(config["evaluation_interval"]) <= 15


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= own


def test_the_dashboard_is_where_grafana_looks() -> None:
    [provider] = read_yaml(COMPOSE / "grafana" / "provisioning" / "dashboards" / "fiapx.yml")["providers"]
    mounts = read_yaml(COMPOSE / "compose.yaml")["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert Path(COMPOSE / "grafana" / "dashboards" / "fiapx.json").exists()
