"""The queries of all panels, read from the checked-in dashboards."""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
DASHBOARD_FILES = sorted(FOLDER.glob("*.json"))


class PanelQuery(Struct, frozen=True):
    """One query of a panel. `when_empty`: why the panel may be empty, as it says itself; "" if it may not."""

    dashboard: str
    panel: str
    expr: str
    legend: str
    unit: str
    when_empty: str

    @property
    def name(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.legend}"

    def replace_variables(self, window: str) -> str:
        """Returns the query with "All" for each filter, and this window for rates."""
        expr = self.expr
        for variable in ("team", "seller", "model"):
            expr = expr.replace(f"${variable}", ".*")
        for variable in ("$__rate_interval", "$__range", "$__interval"):
            expr = expr.replace(variable, window)
        return expr


def read_dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in DASHBOARD_FILES]


def list_panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def list_panel_queries() -> list[PanelQuery]:
    return [
        PanelQuery(
            dashboard["title"].rpartition(" ")[2],
            panel["title"],
            target["expr"],
            target["legendFormat"],
            panel["fieldConfig"]["defaults"]["unit"],
            panel["fieldConfig"]["defaults"].get("noValue", ""),
        )
        for dashboard in read_dashboards()
        for panel in list_panels(dashboard)
        for target in panel["targets"]
    ]
