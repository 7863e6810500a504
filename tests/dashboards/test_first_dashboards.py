"""The gateway of `make run` and the Prometheus of `make prometheus` have data for every panel within a minute."""

import subprocess
import time
from pathlib import Path

import pytest

from gateway.timeouts_and_intervals import Timing
from tests.dashboards.panel_queries import list_panel_queries
from tests.dashboards.prometheus_server import ROOT, run_prometheus_with_config
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_runner import run_sandboxed_gateway
from tests.harness.wait import wait_for_value

LOCAL_CONFIG = ROOT / "deploy" / "prometheus" / "local.yml"
# Queries without data on the first day although their panel has some, and why.
MAY_BE_EMPTY = {"Overview: Spend per hour, and a week ago: a week ago": "Prometheus has no data of a week ago"}
MINUTE_SECONDS = 60.0


def test_make_prometheus_scrapes_the_gateway_of_make_run() -> None:
    result = subprocess.run(["make", "-n", "prometheus"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    assert str(LOCAL_CONFIG.relative_to(ROOT)) in result.stdout
    assert "127.0.0.1:8080" in LOCAL_CONFIG.read_text()


@pytest.mark.thorough
def test_every_panel_has_data_within_a_minute(tmp_path: Path) -> None:
    """Panels that are empty without faults say so themselves. The gateway has the product's times."""
    config = LOCAL_CONFIG.read_text().replace("rules/*", str(LOCAL_CONFIG.parent / "rules" / "*"))
    with run_sandboxed_gateway(tmp_path / "gateway", child=ChildSpec(Timing())) as gateway:
        gateway.sandbox.set_latency(0.0)
        address = gateway.url.removeprefix("http://")
        (tmp_path / "local.yml").write_text(config.replace("127.0.0.1:8080", address))
        with run_prometheus_with_config(tmp_path, tmp_path / "local.yml") as server:
            started_at = time.monotonic()

            def find_empty_queries() -> set[str]:
                body = {"prompt": "a lighthouse", "quality": "low"}
                gateway.http.post("/v1/images/generations", json=body).raise_for_status()
                return {
                    query.name
                    for query in list_panel_queries()
                    if not query.when_empty and not server.query(query.replace_variables("30s"))
                }

            wait_for_value(
                find_empty_queries,
                lambda empty: empty == MAY_BE_EMPTY.keys(),
                "every panel has data",
                lambda: time.sleep(1),
                MINUTE_SECONDS - (time.monotonic() - started_at),
            )
