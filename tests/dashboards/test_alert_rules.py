"""Alerts fire when they should, and each has a section in the runbook."""

import re
from pathlib import Path

import pytest
import yaml

from tests.dashboards.alert_rules import ALERTS, run_promtool
from tests.dashboards.panel_queries import list_panel_queries, list_panels, read_dashboards
from tests.dashboards.prometheus_server import ROOT, RULES_FOLDER

# An external label of Prometheus.
DOCS_ADDRESS = "{{ $externalLabels.image_gateway_docs }}"
RUNBOOK = ROOT / "docs" / "runbook.md"
TEST_FILES = sorted((RULES_FOLDER.parent / "tests").glob("*.yaml"))


@pytest.mark.thorough
@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_as_listed(path: Path) -> None:
    result = run_promtool("test", "rules", str(path))
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_fires_in_a_case() -> None:
    text = "".join(path.read_text() for path in TEST_FILES)
    assert [name for name in ALERTS if f'alertname="{name}"' not in text] == []


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{DOCS_ADDRESS}/runbook.md#{name.lower()}"
    section = read_runbook_sections()[name]
    assert section.startswith({"page": "**Page.**", "ticket": "**Ticket.**"}[rule["labels"]["severity"]])
    assert "**Look at**" in section
    assert "**Do**" in section


@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_settings_of_prometheus_have_the_address_of_the_runbook(name: str) -> None:
    settings = yaml.safe_load((RULES_FOLDER.parent / name).read_text())
    assert "image_gateway_docs" in settings["global"]["external_labels"]


def read_runbook_sections() -> dict[str, str]:
    _, *parts = re.split(r"^## (\w+)\n\n", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_page_for_operators_lists_every_alert() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    named = {name.replace("…", "") for name in re.findall(r"`(?:ImageGateway|…)(\w+)`", page)}
    names = {name.removeprefix("ImageGateway") for name in ALERTS}
    assert [name for name in names if name not in named and not (name.endswith("Slowly") and "Slowly" in named)] == []


def test_runbook_has_no_section_without_alert() -> None:
    assert list(read_runbook_sections()) == list(ALERTS)


def test_runbook_names_only_existing_panels() -> None:
    panels = {f"{query.dashboard}: {query.panel}" for query in list_panel_queries()}
    names = re.findall(r"\*((?:Overview|Spend|Sellers|Jobs|Process): [^*]+)\*", RUNBOOK.read_text().replace("\n", " "))
    assert names
    assert [name for name in names if not any(panel.startswith(name) for panel in panels)] == []


def test_panels_link_to_existing_sections() -> None:
    links = {
        link["url"]
        for dashboard in read_dashboards()
        for panel in list_panels(dashboard)
        for link in panel.get("links", ())
    }
    assert links
    assert links <= {f"${{docs}}/runbook.md#{name.lower()}" for name in ALERTS}
