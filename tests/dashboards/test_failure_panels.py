"""Panels of failures by cell are right for cells that only fail, sometimes fail, and never fail."""

from pathlib import Path

import pytest
import yaml
from msgspec import Struct

from tests.dashboards.alert_rules import run_promtool
from tests.dashboards.panel_queries import list_panel_queries

QUERIES = {f"{query.dashboard}: {query.panel}": query for query in list_panel_queries()}
# A power of two, so that rounded values are exact.
PRECISION = 2**-10
ONLY_FAILS, SOMETIMES_FAILS, NEVER_FAILS = "high", "medium", "low"
CELL = 'seller="runapi",model="m",operation="generate",resolution="1k"'
ORDERED = 'model="m",resolution="1k"'
# By quality, and by instance: a replica that has seen no failure has no series of them.
COUNTS = {
    (ONLY_FAILS, "1"): {"failed": "0+2x60", "seconds": "0+20x60"},
    (SOMETIMES_FAILS, "1"): {"failed": "0+1x60", "seconds": "0+420x60", "delivered": "0+2x60", "time": "0+60x60"},
    (SOMETIMES_FAILS, "2"): {"delivered": "0+1x60", "time": "0+30x60"},
    (NEVER_FAILS, "2"): {"delivered": "0+5x60", "time": "0+75x60"},
}
ORDER_METRICS = {
    "failed": "igw_failed_orders_total",
    "seconds": "igw_failed_order_seconds_total",
    "delivered": "igw_attempt_duration_seconds_count",
    "time": "igw_attempt_duration_seconds_sum",
}
JOB_METRICS = {
    "failed": "igw_failed_jobs_total",
    "seconds": "igw_failed_job_seconds_total",
    "delivered": "igw_job_duration_seconds_count",
    "time": "igw_job_duration_seconds_sum",
}


class PanelCase(Struct, frozen=True):
    """A panel and its values by quality."""

    panel: str
    values: dict[str, float]


SHARES = {ONLY_FAILS: 1.0, SOMETIMES_FAILS: 0.25}
SECONDS = {ONLY_FAILS: 10.0, SOMETIMES_FAILS: 420.0}
CASES = (
    PanelCase("Sellers: Failed orders, by cell", SHARES),
    PanelCase("Sellers: Time of a failed order, by cell", SECONDS),
    # The offer expects 30 s, and 10 s for low quality.
    PanelCase("Sellers: Compared with what is configured", {SOMETIMES_FAILS: 1.0, NEVER_FAILS: 1.5}),
    PanelCase("Jobs: Failed jobs by resolution and quality", SHARES),
    PanelCase("Jobs: Time until a job fails", SECONDS),
)


def list_series() -> list[dict[str, str]]:
    counted = [
        (f'{name}{{instance="{instance}",{labels},quality="{quality}"}}', counts[key])
        for (quality, instance), counts in COUNTS.items()
        for metrics, labels in ((ORDER_METRICS, CELL), (JOB_METRICS, ORDERED))
        for key, name in metrics.items()
        if key in counts
    ]
    expected = [
        (f'igw_expected_order_duration_seconds{{instance="{n}",seller="runapi",model="m",quality="{quality}"}}', values)
        for quality, values in ((ONLY_FAILS, "30x60"), (SOMETIMES_FAILS, "30x60"), (NEVER_FAILS, "10x60"))
        for n in (1, 2)
    ]
    return [{"series": series, "values": values} for series, values in counted + expected]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.panel)
def test_failures_by_cell(case: PanelCase, tmp_path: Path) -> None:
    labels = CELL.replace('model="m",', "") if case.panel.startswith("Sellers") else 'resolution="1k"'
    expectation = {
        "expr": f"round({QUERIES[case.panel].replace_variables('10m')}, {PRECISION})",
        "eval_time": "50m",
        "exp_samples": [
            {"labels": f'{{{labels},quality="{quality}"}}', "value": value} for quality, value in case.values.items()
        ],
    }
    test = {"interval": "1m", "input_series": list_series(), "promql_expr_test": [expectation]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    result = run_promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
