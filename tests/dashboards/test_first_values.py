"""A Prometheus that runs before the first image shows all money and all events from the first one on."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.redis import RedisStore
from tests.dashboards.alert_rules import RULES
from tests.dashboards.panel_queries import list_panel_queries
from tests.dashboards.prometheus_server import PrometheusServer, Series, run_prometheus
from tests.dashboards.proof_gateways import KEYS, WEBHOOK_PATH, ProofGateways, run_proof_gateways
from tests.harness.ledger_reader import read_ledger
from tests.harness.sandbox_runner import RunningSandbox, run_sandbox
from tests.harness.wait import wait_for_value, wait_until

PANELS = {f"{query.dashboard}: {query.panel}": query for query in list_panel_queries()}
FAILED_SHARE = next(rule["expr"] for rule in RULES if rule.get("record") == "igw:failed_jobs:ratio_rate5m")
COMPLETED_JOBS: tuple[tuple[str, dict[str, Any]], ...] = (
    *[("design", {"quality": quality}) for quality in ("low", "low", "medium", "low", "high", "low")],
    *[("marketing", {"quality": "low", "n": 2}) for _ in range(4)],
    *[("marketing", {"quality": "low", "resolution": "2k", "aspect_ratio": "3:2"}) for _ in range(4)],
)
FAILED_SHARE_EXPECTED = 2 / (len(COMPLETED_JOBS) + 1 + 2)


class FirstRun(Struct, frozen=True):
    """Gateways that no client has used yet, and a Prometheus that scrapes them."""

    proof: ProofGateways
    sandbox: RunningSandbox
    server: PrometheusServer

    def run_job(self, gateway_number: int, team: str, expected_status: str = "completed", **body: Any) -> None:
        headers = {"authorization": f"Bearer {KEYS[team]}", "prefer": "wait=60"}
        url = f"{self.proof.gateways[gateway_number % 2].url}/v1/jobs"
        answer = httpx.post(
            url, json={"prompt": "a lighthouse", **body}, headers=headers, timeout=70.0, trust_env=False
        )
        assert answer.json()["status"] == expected_status, answer.text

    def query_panel(self, name: str) -> list[Series]:
        return self.server.query(PANELS[name].replace_variables("10m"))

    def query_sum(self, name: str) -> int:
        """Returns the sum of a panel's values, rounded to a whole number."""
        return round(sum(series.values[0][1] for series in self.query_panel(name)))

    def count_failovers(self) -> int:
        lines = [line for gateway in self.proof.gateways for line in gateway.read_log_lines()]
        return len([line for line in lines if line["event"] == "failover started"])

    def expect_spend_of_ledger(self) -> None:
        for gateway in self.proof.gateways:
            gateway.wait_until_idle()
        by_team, by_cell = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        for entry in read_ledger(lambda: RedisStore(self.proof.redis_server.url)):
            if entry.line is LedgerLine.CAPTURE:
                by_team[(entry.team,)] += entry.amount
                by_cell[entry.cell.resolution, entry.cell.quality] += entry.amount
        assert by_team
        self.wait_for_panel("Spend: Spend in this time", by_team, "team")
        self.wait_for_panel("Spend: Spend by resolution and quality", by_cell, "resolution", "quality")

    def wait_for_panel(self, name: str, expected: Counter[tuple[str, ...]], *labels: str) -> None:
        """Waits until the panel shows these amounts in micro-USD."""
        wait_for_value(
            lambda: {tuple(map(series.labels.get, labels)): to_micros(series) for series in self.query_panel(name)},
            lambda amounts: amounts == expected,
            f"{name} is the ledger: {expected}",
        )


def to_micros(series: Series) -> int:
    return round(series.values[0][1] * 1_000_000)


@pytest.mark.thorough
def test_first_money_and_events_are_shown(tmp_path: Path) -> None:
    with run_sandbox() as sandbox, run_proof_gateways(tmp_path, sandbox) as proof:
        sandbox.set_latency(0.0)
        with run_prometheus(tmp_path / "prometheus", proof.targets) as server:
            run = FirstRun(proof, sandbox, server)
            wait_until(
                lambda: len(server.query("max by (instance) (igw_open_jobs)")) == 2,
                "both replicas have read the store, and Prometheus has scraped them",
            )
            assert server.query('{__name__=~"igw_(spend_usd|jobs_ended|failovers)_total"}') == []
            run_first_jobs(run)
            run.expect_spend_of_ledger()
            expect_events(run)
            expect_webhooks(run)
            restart_gateways(run)
            run.run_job(0, "research", quality="medium")
            run.expect_spend_of_ledger()


def run_first_jobs(run: FirstRun) -> None:
    """Lets all jobs complete, one of them at its second seller, and two fail."""
    for number, (team, body) in enumerate(COMPLETED_JOBS):
        run.run_job(number, team, **body)
    run.sandbox.inject_fault("refuse", vendor="runapi", status=503, times=1)
    run.run_job(0, "design", policy="steady", quality="high")
    for vendor in ("runapi", "runflow"):
        run.sandbox.inject_fault("refuse", vendor=vendor, status=503)
    run.run_job(0, "design", "failed", provider={"only": ["runapi"]})
    run.run_job(1, "marketing", "failed", provider={"only": ["runflow-runs"]})
    run.sandbox.call_control_route("DELETE", "/faults")


def expect_events(run: FirstRun) -> None:
    failovers = run.count_failovers()
    assert failovers >= 1
    wait_for_value(
        lambda: run.query_sum("Sellers: Failovers, from and to"),
        lambda count: count == failovers,
        "failovers are shown",
    )
    # Prometheus extrapolates each series to the end of the window, less and less over time.
    wait_for_value(
        lambda: [series.values[0][1] for series in run.server.query(FAILED_SHARE)],
        lambda shares: len(shares) == 1 and abs(shares[0] - FAILED_SHARE_EXPECTED) < 0.01,
        f"the share of failed jobs is {FAILED_SHARE_EXPECTED}",
    )


def expect_webhooks(run: FirstRun) -> None:
    """Lets the first webhook fail, after some that were delivered."""
    delivered = len([team for team, _ in COMPLETED_JOBS if team == "marketing"]) + 1
    wait_until(lambda: len(run.proof.receiver.webhooks) == delivered, "the webhooks of all jobs are delivered")
    run.proof.receiver.statuses[WEBHOOK_PATH] = [410]
    run.run_job(0, "marketing", quality="low")
    wait_for_value(
        lambda: {
            series.labels["outcome"]: round(series.values[0][1])
            for series in run.query_panel("Jobs: Webhooks that ended")
        },
        lambda ended: ended == {"delivered": delivered, "failed": 1},
        f"{delivered} webhooks are delivered, and one failed",
    )


def restart_gateways(run: FirstRun) -> None:
    for gateway in run.proof.gateways:
        gateway.kill()
    for gateway in run.proof.gateways:
        gateway.start()
        wait_until(lambda: "igw_open_jobs{" in gateway.get("/metrics").text, "it has read the store")  # noqa: B023
