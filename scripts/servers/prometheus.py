"""A private Prometheus with the configuration of the Compose file, and exporters for it to ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import httpx
from ruamel.yaml import YAML

from scripts.servers.process import PrivateProcess, free_port, program

Targets = Mapping[str, Sequence[str]]
"""Addresses (``host:port``) by the name under which the Compose file finds them."""

_SHIPPED: Final = Path(__file__).parents[2] / "compose" / "prometheus"
_INTERVAL: Final = "1s"


class PrivatePrometheus:
    """Asks every second; alerts do not wait for their `for`. Addresses are given, where the Compose file asks the DNS.

    What it has seen is in `folder`, and still there when it is started again. Raises ServerMissing, ServerFailed.
    """

    def __init__(self, folder: Path, targets: Targets) -> None:
        self._folder, self._program = folder, program("prometheus", "/usr/bin/prometheus")
        self._address = f"127.0.0.1:{free_port()}"
        self._process: PrivateProcess | None = None
        self._configure({**targets, "127.0.0.1:9090": [self._address]})
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self._address}"

    def start(self) -> None:
        """Return once it is ready."""
        options = [f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data"]
        command = [str(self._program), *options, f"--web.listen-address={self._address}"]
        self._process = PrivateProcess(command, self._folder)
        self._process.wait_until(lambda: httpx.get(f"{self.url}/-/ready").status_code == 200)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of this moment: ``metric`` (labels) and ``value`` (time, text)."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def get(self, what: str, **parameters: str) -> Any:
        """``data`` of an answer of its API."""
        return httpx.get(f"{self.url}/api/v1/{what}", params=parameters).raise_for_status().json()["data"]

    def _configure(self, targets: Targets) -> None:
        yaml = YAML()
        config = yaml.load(_SHIPPED / "prometheus.yml")
        config["global"] |= {
            "scrape_interval": _INTERVAL,
            "scrape_timeout": _INTERVAL,
            "evaluation_interval": _INTERVAL,
        }
        for job in (*config["scrape_configs"], *config["alerting"]["alertmanagers"]):
            names = [name for search in job.pop("dns_sd_configs", []) for name in search["names"]]
            names += [name for static in job.pop("static_configs", []) for name in static["targets"]]
            job["static_configs"] = [
                {"targets": list(targets[name]), "labels": {"__meta_dns_name": name}} for name in names
            ]
        yaml.dump(config, self._folder / "prometheus.yml")
        rules = re.sub(r"^ +for: .*\n", "", (_SHIPPED / "alerts.yml").read_text(), flags=re.MULTILINE)
        (self._folder / "alerts.yml").write_text(rules)


class PrivateAlertmanager(PrivateProcess):
    """Tells at once who is to be told. `here` turns addresses of the Compose file into ours. Raises ServerMissing,
    ServerFailed."""

    def __init__(self, folder: Path, here: Callable[[str], str]) -> None:
        name = "prometheus-alertmanager"
        config = re.sub(
            r"(group_wait|group_interval): .*", rf"\1: {_INTERVAL}", here((_SHIPPED / "alertmanager.yml").read_text())
        )
        (folder / "alertmanager.yml").write_text(config)
        self.address = f"127.0.0.1:{free_port()}"
        options = ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="]
        super().__init__(
            [str(program(name, f"/usr/bin/{name}")), *options, f"--web.listen-address={self.address}"], folder
        )
        self.wait_until(lambda: httpx.get(f"http://{self.address}/-/ready").status_code == 200)


class PrivateExporter(PrivateProcess):
    """Tells Prometheus of a server. `kind` is ``postgres``, ``redis``, or ``node`` for the machine. Raises
    ServerMissing, ServerFailed."""

    def __init__(self, folder: Path, kind: str, env: Mapping[str, str]) -> None:
        name = f"prometheus-{kind}-exporter"
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(
            [str(program(name, f"/usr/bin/{name}")), f"--web.listen-address={self.address}"], folder, env=env
        )
        self.wait_until(lambda: httpx.get(f"http://{self.address}/metrics").status_code == 200)
