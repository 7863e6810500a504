"""The checked-in dashboards are those of the code, explain themselves, and query only metrics that exist."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.telemetry.metric_row import MetricKind
from gateway.telemetry.metric_table import METRIC_TABLE
from tests.dashboards.alert_rules import RULES, run_promtool
from tests.dashboards.panel_queries import list_panel_queries, list_panels, read_dashboards
from tests.dashboards.prometheus_server import ROOT

DASHBOARDS = {dashboard["title"].rpartition(" ")[2]: dashboard for dashboard in read_dashboards()}
PROMETHEUS_METRICS = {"up"}


def test_dashboards_are_those_of_the_code() -> None:
    command = [sys.executable, "deploy/grafana/generate_dashboards.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_there_are_five_dashboards() -> None:
    assert DASHBOARDS.keys() == {"Overview", "Spend", "Sellers", "Jobs", "Process"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_explain_themselves(name: str) -> None:
    panels = list_panels(DASHBOARDS[name])
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in DASHBOARDS[name]["panels"]}) == len(DASHBOARDS[name]["panels"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    places = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    fields = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(fields) == len(set(fields))
    assert max(x for x, _ in fields) < 24


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_uses_all_of_its_variables(name: str) -> None:
    dashboard = DASHBOARDS[name]
    queries = " ".join(target["expr"] for panel in list_panels(dashboard) for target in panel["targets"])
    filters = {variable["name"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"}
    assert set(re.findall(r"=~\"\$(\w+)\"", queries)) == filters


@pytest.mark.parametrize("name", DASHBOARDS)
def test_highest_value_is_green_only_if_the_lowest_is_red(name: str) -> None:
    for panel in list_panels(DASHBOARDS[name]):
        first, *others = (step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"])
        if others:
            expected = (
                ["orange", "green"] if first == "red" else [color for color in ("orange", "red") if color in others]
            )
            assert others == expected, panel["title"]


def test_panels_of_spend_say_if_they_ignore_the_filter_of_teams() -> None:
    panels = list_panels(DASHBOARDS["Spend"])
    unfiltered = {
        panel["title"] for panel in panels if not any("$team" in target["expr"] for target in panel["targets"])
    }
    assert unfiltered
    assert {panel["title"] for panel in panels if "Of all teams" in panel["description"]} == unfiltered


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_marks_configuration_changes(name: str) -> None:
    annotations = DASHBOARDS[name]["annotations"]["list"]
    assert any("igw_config_reloads_total" in annotation["expr"] for annotation in annotations)


def test_all_queries_are_valid(tmp_path: Path) -> None:
    rules = [
        {"record": f"query{number}", "expr": query.replace_variables("1m")}
        for number, query in enumerate(list_panel_queries())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    result = run_promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert result.returncode == 0, result.stderr


def list_series_names() -> set[str]:
    suffixes = ("_bucket", "_count", "_sum")
    return {
        row.name + suffix
        for row in METRIC_TABLE
        for suffix in (suffixes if row.kind is MetricKind.HISTOGRAM else ("",))
    }


def test_queries_use_only_metrics_and_labels_that_exist() -> None:
    known_names = list_series_names() | {rule["record"] for rule in RULES if "record" in rule} | PROMETHEUS_METRICS
    expressions = [query.replace_variables("1m") for query in list_panel_queries()] + [rule["expr"] for rule in RULES]
    names = {name for expr in expressions for name in re.findall(r"\b(?:igw[_:]|process_)[\w:]+", expr)}
    assert names
    assert names - known_names == set()


def test_exemplars_are_requested_from_histograms_only() -> None:
    targets: list[dict[str, Any]] = [
        target for dashboard in DASHBOARDS.values() for panel in list_panels(dashboard) for target in panel["targets"]
    ]
    assert all("_bucket" in target["expr"] for target in targets if target.get("exemplar"))
    assert any(target.get("exemplar") for target in targets)
