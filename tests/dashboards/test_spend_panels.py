"""Panels of money show how much it grew in the selected time, from the first value on, whichever replicas ran when."""

from pathlib import Path

import pytest
import yaml
from msgspec import Struct

from tests.dashboards.alert_rules import run_promtool
from tests.dashboards.panel_queries import list_panel_queries

QUERIES = {f"{query.dashboard}: {query.panel}": query for query in list_panel_queries()}
LABELS = 'team="design",seller="runapi",model="m",line="capture"'


class SpendCase(Struct, frozen=True):
    """What replicas export every half minute, by instance, and the spend of the last hour after 100 minutes."""

    name: str
    values: dict[str, str]
    expected: float


CASES = (
    SpendCase("the first image", {"1": "_x150 0x2 0.103x60", "2": "_x150 0x2 0.103x60"}, 0.103),
    SpendCase("one replica is killed while the series is new", {"1": "_x150 0", "2": "_x151 0.103x60"}, 0.103),
    SpendCase("one replica starts later", {"1": "_x90 0x2 0.5x20 0.7x100", "2": "_x120 0.7x100"}, 0.7),
    SpendCase("a replica takes the place of the other", {"1": "1x90 1+0.1x60", "2": "_x151 7x20 7.5x60"}, 6.5),
    SpendCase("Prometheus is younger than the money", {"1": "_x100 250x120"}, 0.0),
    SpendCase("the store is unavailable for a moment", {"1": "2x100 _x20 2.25x100"}, 0.25),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_spend_in_this_time(case: SpendCase, tmp_path: Path) -> None:
    series = [
        {"series": f'igw_spend_usd_total{{instance="{instance}",{LABELS}}}', "values": values}
        for instance, values in case.values.items()
    ]
    expectation = {
        "expr": QUERIES["Spend: Spend in this time"].replace_variables("1h"),
        "eval_time": "100m",
        "exp_samples": [{"labels": '{team="design"}', "value": case.expected}],
    }
    test = {"name": case.name, "interval": "30s", "input_series": series, "promql_expr_test": [expectation]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    result = run_promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
