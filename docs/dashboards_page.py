"""Renders the page of the dashboards: pictures and sample values of a recorded run, and how to import them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dashboard_pictures import PicturePanel, Sample, render_picture

from tests.dashboards.panel_queries import PanelQuery, list_panel_queries, list_panels, read_dashboards

Row = tuple[str, ...]
SAMPLES_FILE = Path(__file__).parent / "dashboards" / "samples.json"
PANELS_HEAD: Row = ("Panel", "Shows", "Query", "Sample")
UNIT_FORMATS: Mapping[str, str] = {
    "s": "{:.3g} s",
    "currencyUSD": "${:.4g}",
    "percentunit": "{:.0%}",
    "reqps": "{:.3g}/s",
    "short": "{:.4g}",
    "none": "{:.0f}",
}
MIB = 1 << 20


def read_samples() -> Mapping[str, list[Sample]]:
    """Reads the series of each query, by the name of the query."""
    return {
        name: [Sample(legend, tuple(values)) for legend, values in series.items()]
        for name, series in json.loads(SAMPLES_FILE.read_text()).items()
    }


def get_name(dashboard: Mapping[str, Any]) -> str:
    return str(dashboard["title"]).rpartition(" ")[2]


INTRODUCTION = """
# Dashboards

Five dashboards for Grafana 11.6 or newer, and the alerts of the [runbook](runbook.md). The pictures and sample
values are from a run of two gateways with simulated sellers, in which one thing after the other went wrong: a
seller changed its prices, one failed, one delivered half the size, an account had no credit left, the server
of a team refused its webhooks, then did not answer them, a budget was spent, sellers were slow, all of them
failed, the disk of the images was gone, then Redis, and a replica was killed. A test repeats that run, and
fails if a query has no data, or if another alert fires than must.

## See them with the gateway of `make run`

```bash
make run           # in one terminal: the gateway with simulated sellers, on port 8080
make prometheus    # in another one: Prometheus, on port 9090
```

Order some images ([README](../README.md)), and open `http://127.0.0.1:9090/graph`, or add it to a Grafana as
described below. Within a minute every query has data. These need more than that: the line of a week ago, and what
only exists after a fault; such panels say so themselves.

## Import them

- **Provisioned** (`deploy/compose.yaml` does it): mount `deploy/grafana/provisioning` at `/etc/grafana/provisioning`,
  and `deploy/grafana/dashboards` at `/etc/grafana/dashboards`. `GATEWAY_URL` is where browsers reach the gateway:
  points of latency panels (exemplars) link to their job there, which opens with an API key of the job's team.
- **By hand**: *Dashboards → New → Import*, one JSON file of `deploy/grafana/dashboards` after the other. Select
  your Prometheus in the variable *Prometheus*.
- **The runbook**: panels link to `${docs}/runbook.md`. Mount the folder `docs` at
  `/usr/share/grafana/public/image-gateway`, or set the constant `docs` of the dashboards to the address of your
  copy.
- **Prometheus**: load `deploy/prometheus/rules/*.yaml`, on which some panels depend, and start it with
  `--enable-feature=exemplar-storage`. Every replica is a target of its own, with the job name `image-gateway`,
  which is scraped every 15 seconds, or at least every 30. Alerts link to the runbook at the address in the external
  label `image_gateway_docs`.

The dashboards are written in Python, `deploy/grafana/*_dashboard.py`, with Grafana's own SDK. `make docs` generates
the JSON and this page, `make check` compares both, and `python -m tests.dashboards.record_samples` records the run
again.

Money is the same in all replicas, since all read it from one store: its queries take the highest value of each
series before they add up. Everything else is counted by one replica, and added up. A new series is 0 for its first
minute, so money and events of a kind that has never happened before appear a minute later.
"""


def render_dashboards_body(render_table: Callable[[Row, Iterable[Row]], str]) -> str:
    samples = read_samples()
    return INTRODUCTION + "".join(_render_section(dashboard, samples, render_table) for dashboard in _sort_dashboards())


def _sort_dashboards() -> list[dict[str, Any]]:
    order = ("Overview", "Spend", "Sellers", "Jobs", "Process")
    return sorted(read_dashboards(), key=lambda dashboard: order.index(get_name(dashboard)))


def _render_section(
    dashboard: Mapping[str, Any],
    samples: Mapping[str, list[Sample]],
    render_table: Callable[[Row, Iterable[Row]], str],
) -> str:
    name = get_name(dashboard)
    queries = [query for query in list_panel_queries() if query.dashboard == name]
    panels = {panel["title"]: panel for panel in list_panels(dict(dashboard))}
    rows = [_make_row(query, panels[query.panel], samples.get(query.name, [])) for query in queries]
    return f"""
## {name}

{dashboard["description"]}

![The panels of {name} in the recorded run](dashboards/{name.lower()}.svg)

{render_table(PANELS_HEAD, rows)}"""


def _make_row(query: PanelQuery, panel: Mapping[str, Any], samples: list[Sample]) -> Row:
    expr = query.expr.replace("|", "\\|")
    return f"{query.panel}", panel["description"], f"`{expr}`", format_sample(samples, query.unit)


def format_sample(samples: list[Sample], unit: str) -> str:
    """Shows the highest series at the moment of its highest value."""
    if not samples:
        return "–"
    highest = max(samples, key=lambda sample: sample.maximum)
    value = _format_value(highest.maximum, unit)
    return f"{highest.legend}: {value}" if highest.legend else value


def _format_value(value: float, unit: str) -> str:
    return f"{value / MIB:.1f} MiB" if unit == "bytes" else UNIT_FORMATS[unit].format(value)


def render_dashboard_picture(name: str) -> str:
    samples = read_samples()
    (dashboard,) = (dashboard for dashboard in read_dashboards() if get_name(dashboard) == name)
    queries = [query for query in list_panel_queries() if query.dashboard == name]
    panels = [
        PicturePanel(
            title=panel["title"],
            place=panel["gridPos"],
            samples=[
                sample for query in queries if query.panel == panel["title"] for sample in samples.get(query.name, [])
            ],
            format_value=_make_formatter(panel["fieldConfig"]["defaults"]["unit"]),
        )
        for panel in list_panels(dashboard)
    ]
    return render_picture(panels)


def _make_formatter(unit: str) -> Callable[[float], str]:
    return lambda value: _format_value(value, unit)
