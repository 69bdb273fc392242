"""What the Compose file says: it is valid, and what it promises about containers holds for each of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fiapx.settings import Settings
from tests.compose.composed import COMPOSE, ROLES, ROOT, Document, built, compose, read_yaml

DOCUMENT = compose()
SERVICES = DOCUMENT["services"]
PUBLISHED = {"gateway", "grafana", "mailpit"}


def test_the_file_is_valid(tmp_path: Path) -> None:
    rendered = tmp_path / "compose.json"
    rendered.write_text(json.dumps(DOCUMENT))
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    for file in (rendered, COMPOSE / "compose.yaml"):
        done = subprocess.run([*command, str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_every_variable_is_a_knob_with_the_same_default() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (COMPOSE / "compose.yaml").read_text()))
    knobs = dict(re.findall(r"^(\w+)=(.*)$", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
    assert used == knobs


def test_each_role_is_a_container_of_its_own() -> None:
    commands = {name: " ".join(service["command"]) for name, service in built(DOCUMENT).items()}
    assert commands == {
        "gateway": "serve gateway",
        "auth": "serve auth",
        "processing": "serve processing",
        "worker": "worker",
        "notify": "notify",
        "migrate": "db upgrade",
    }
    assert {service["image"] for service in built(DOCUMENT).values()} == {"fiapx:local"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"]
    assert "back" in service["networks"]
    if "build" in service:
        assert service["read_only"] is True
    else:
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]) or name == "postgres", "pinned by tag"


@pytest.mark.parametrize("name", SERVICES)
def test_instances_can_be_added(name: str) -> None:
    assert "container_name" not in SERVICES[name]
    assert bool(SERVICES[name].get("ports")) == (name in PUBLISHED)
    if name in ROLES:
        document = compose(**{f"{'AUTH' if name == 'auth' else name.upper()}S": "3", "NOTIFIES": "3"})
        assert document["services"][name]["deploy"]["replicas"] in ("3", 3)


def test_each_gateway_has_a_port_of_this_machine() -> None:
    """Compose gives each container a port of the range."""
    advice = re.search(r"GATEWAYS=(\d+)\D+PORT=(\S+)", (COMPOSE / ".env.example").read_text())
    assert advice is not None, "nobody is told"
    gateway = compose(GATEWAYS=advice[1], PORT=advice[2])["services"]["gateway"]
    first, last = re.fullmatch(r"127\.0\.0\.1:(\d+)-(\d+):8000", *gateway["ports"]).groups()  # type: ignore[union-attr]
    assert int(last) - int(first) + 1 == int(gateway["deploy"]["replicas"])


def test_ports_are_those_of_this_machine_alone() -> None:
    ports = [port for name in PUBLISHED for port in SERVICES[name]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert DOCUMENT["networks"]["back"]["internal"] is True


def test_what_must_be_there_first_is_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, wait in dict(service.get("depends_on", {})).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other] or other in ROLES, f"{name} waits for {other}"
            else:
                assert (wait["condition"], other) == ("service_completed_successfully", "migrate")
    for role in ("auth", "processing", "worker", "notify"):
        assert {"migrate", "redis", "rabbitmq"} <= set(SERVICES[role]["depends_on"])


@pytest.mark.parametrize("name", built(DOCUMENT))
def test_a_stop_leaves_time_for_the_grace(name: str) -> None:
    service = SERVICES[name]
    grace = float(service["environment"].get("FIAPX_GRACE", Settings().grace))
    assert int(service["stop_grace_period"].removesuffix("s")) > grace + 10


@pytest.mark.parametrize("name", built(DOCUMENT))
def test_settings_exist_and_secrets_are_files(name: str) -> None:
    service = SERVICES[name]
    fields = {f"FIAPX_{field.upper()}" for field in Settings.model_fields}
    secret = {
        f"FIAPX_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)
    }
    granted = {f"/run/secrets/{secret}" for secret in service["secrets"]}
    files = {key: value for key, value in service["environment"].items() if key.endswith("_FILE")}
    assert {key.removesuffix("_FILE") for key in service["environment"]} <= fields
    assert not secret & set(service["environment"])
    assert set(files.values()) == granted


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_reached_from_its_network_and_believes_no_other(role: str) -> None:
    environment = SERVICES[role]["environment"]
    assert (environment["FIAPX_HOST"], environment["FIAPX_METRICS_HOST"]) == ("0.0.0.0", "0.0.0.0")
    if role in ("auth", "processing"):
        assert [{"subnet": environment["FIAPX_TRUSTED_PROXIES"]}] == DOCUMENT["networks"]["back"]["ipam"]["config"]


def test_a_role_gets_its_own_database_alone() -> None:
    expected = {"auth": {"auth"}, "processing": {"processing"}, "worker": {"processing"}, "notify": {"notify"}}
    for role in ROLES:
        databases = {name.removesuffix("_database_url") for name in SERVICES[role]["secrets"] if "database" in name}
        assert databases == expected.get(role, set())


def test_every_secret_is_made(tmp_path: Path) -> None:
    script = [str(COMPOSE / "secrets.sh"), str(tmp_path / "secrets")]
    subprocess.run(script, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {Path(secret["file"]).name for secret in DOCUMENT["secrets"].values()} <= set(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    subprocess.run(script, check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made, "what is there stays"


def test_secrets_stay_out_of_git_and_of_the_image() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"/compose/secrets/", "/compose/.env"} <= set(ignored)
    context = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in context
    assert not any(line.startswith("!compose") for line in context)


def test_everything_that_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for source in (mount.partition(":")[0] for mount in service.get("volumes", [])):
            assert (COMPOSE / source).exists() or source in DOCUMENT["volumes"], source


def test_the_diagram_shows_every_service() -> None:
    section = (ROOT / "docs" / "architecture.md").read_text().partition("## With Docker Compose")[2]
    diagram = re.search(r"```mermaid\n(.*?)```", section, re.DOTALL)
    assert diagram is not None
    text = re.sub(r"\|.*?\||\".*?\"|^\s*(?:subgraph|flowchart) .*|\bend\b", "", diagram[1], flags=re.MULTILINE)
    assert set(re.findall(r"[a-z]+(?:-[a-z]+)*", text)) == set(SERVICES)


def test_prometheus_looks_for_every_role() -> None:
    config: Document = read_yaml(COMPOSE / "prometheus" / "prometheus.yml")
    names = {
        name: search["port"]
        for job in config["scrape_configs"]
        for search in job.get("dns_sd_configs", [])
        for name in search["names"]
    }
    assert set(ROLES) <= set(names)
    assert {str(names[role]) for role in ROLES} == {
        SERVICES[role]["environment"]["FIAPX_METRICS_PORT"] for role in ROLES
    }
    assert set(names) <= set(SERVICES)
