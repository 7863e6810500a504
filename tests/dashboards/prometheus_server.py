"""Runs a real Prometheus for tests, on a free port. It ends with the test run."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from msgspec import Struct

from tests.harness.ports import reserve_port
from tests.harness.wait import wait_until
from tests.store.redis_servers import set_parent_death_signal

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".venv" / "bin"
RULES_FOLDER = ROOT / "deploy" / "prometheus" / "rules"


class Series(Struct, frozen=True):
    """The result of a query: labels, and the values by Unix time."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, float], ...]


class PrometheusServer:
    """A running Prometheus and its API."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url, self._http = url, http

    def query(self, expr: str) -> list[Series]:
        results = self._call("query", query=expr)["result"]
        return [Series(result["metric"], (_parse_value(result["value"]),)) for result in results]

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        results = self._call("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [Series(result["metric"], tuple(map(_parse_value, result["values"]))) for result in results]

    def query_exemplars(self, expr: str, seconds: float = 3_600) -> list[dict[str, Any]]:
        now = time.time()
        return list(self._call("query_exemplars", query=expr, start=now - seconds, end=now))

    def list_alerts(self, state: str = "firing") -> set[str]:
        """Returns the names of the alerts in this state."""
        alerts = self._call("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == state}

    def list_rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._call("rules")["groups"] for rule in group["rules"]]

    def count_healthy_targets(self) -> int:
        return sum(target["health"] == "up" for target in self._call("targets")["activeTargets"])

    def _call(self, path: str, **parameters: Any) -> Any:
        answer = self._http.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.is_success, answer.text
        return answer.json()["data"]


def _parse_value(value: Sequence[Any]) -> tuple[float, float]:
    return float(value[0]), float(value[1])


@contextmanager
def run_prometheus(
    folder: Path, targets: Sequence[str], rules: Mapping[str, Any] | None = None, interval: str = "1s"
) -> Iterator[PrometheusServer]:
    """Starts a Prometheus that scrapes these addresses and evaluates the groups of `rules`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "image-gateway", "static_configs": [{"targets": list(targets)}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules or {"groups": []}))
    with run_prometheus_with_config(folder, folder / "prometheus.yml") as server:
        yield server


@contextmanager
def run_prometheus_with_config(folder: Path, config: Path) -> Iterator[PrometheusServer]:
    url = f"http://127.0.0.1:{(port := reserve_port())}"
    command = [
        *(str(PROGRAMS / "prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn"),
    ]
    with (folder / "log").open("wb") as log, httpx.Client(trust_env=False, timeout=30) as http:
        with subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=set_parent_death_signal) as process:
            try:
                wait_until(
                    lambda: _is_ready(http, url), "Prometheus is ready", lambda: _check_alive(process, folder / "log")
                )
                yield PrometheusServer(url, http)
            finally:
                process.kill()


def _is_ready(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(f"{url}/-/ready").is_success
    except httpx.TransportError:
        return False


def _check_alive(process: "subprocess.Popen[bytes]", log: Path) -> None:
    assert process.poll() is None, f"Prometheus has ended:\n{log.read_text()}"
