"""Records the series of every panel in the proof run, for docs/dashboards.md."""

import json
import re
import tempfile
import time
from pathlib import Path

from tests.dashboards.panel_queries import PanelQuery, list_panel_queries
from tests.dashboards.prometheus_server import ROOT, PrometheusServer, Series
from tests.dashboards.proof_scenario import run_proof

FILE = ROOT / "docs" / "dashboards" / "samples.json"
POINT_COUNT = 60
MAX_SERIES = 8
RATE_WINDOW = "15s"


def record_samples(server: PrometheusServer, start: float, end: float) -> dict[str, dict[str, list[float | None]]]:
    """Returns the values of each series by its legend, by the name of the query."""
    # In tenths of a second, as is the step: then rounded times are those of Prometheus, which are in milliseconds.
    start, step = round(start, 1), round((end - start) / POINT_COUNT, 1)
    times = [start + number * step for number in range(POINT_COUNT + 1)]
    names = number_instances(server)
    samples = {}
    for query in list_panel_queries():
        series = server.query_range(query.replace_variables(RATE_WINDOW), start, end, step)
        highest = sorted(series, key=lambda entry: max(value for _, value in entry.values), reverse=True)[:MAX_SERIES]
        samples[query.name] = {make_legend(query, entry, names): fill_gaps(entry, times) for entry in highest}
    return samples


def number_instances(server: PrometheusServer) -> dict[str, str]:
    """Returns a name for each address and replica, since they differ from run to run."""
    found = server.query("last_over_time(igw_replica_heartbeat_age_seconds[1h])")
    instances = sorted({entry.labels["instance"] for entry in found})
    replicas = sorted({entry.labels["replica"] for entry in found})
    return {name: f"gateway-{number}" for names in (instances, replicas) for number, name in enumerate(names, 1)}


def make_legend(query: PanelQuery, series: Series, names: dict[str, str]) -> str:
    labels = {name: names.get(value, value) for name, value in series.labels.items()}
    if "{{" in query.legend or query.legend == "__auto":
        template = query.legend.replace("__auto", " ".join(f"{{{{{name}}}}}" for name in labels if name != "__name__"))
        return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template).strip()
    return query.legend


def fill_gaps(series: Series, times: list[float]) -> list[float | None]:
    """Returns the value at each time, in four digits, or None."""
    values = {round(at, 1): value for at, value in series.values}
    found = (values.get(round(at, 1)) for at in times)
    return [None if value is None or value != value else float(f"{value:.4g}") for value in found]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_proof(Path(folder)) as (server, started_at, phases):
        samples = record_samples(server, started_at, phases[-1].ended_at)
    FILE.parent.mkdir(exist_ok=True)
    lines = (f"{json.dumps(name)}: {json.dumps(series)}" for name, series in samples.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"recorded {len(samples)} queries in {time.time() - started_at:.0f} s")


if __name__ == "__main__":
    main()
