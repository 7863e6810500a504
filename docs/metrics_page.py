"""Builds `metrics.md` from the table of metrics."""

from collections.abc import Callable, Iterable

from gateway.telemetry.metric_row import MetricKind, MetricRow
from gateway.telemetry.metric_table import SECTIONS

Row = tuple[str, ...]
METRICS_HEAD: Row = ("Metric", "Type", "Labels", "Meaning")


def build_metric_rows(metrics: Iterable[MetricRow]) -> list[Row]:
    return [(f"`{row.name}`", _describe_type(row), ", ".join(row.labels) or "–", row.help) for row in metrics]


def _describe_type(row: MetricRow) -> str:
    if row.is_from_store:
        return f"{row.kind}, of the store"
    if row.kind is not MetricKind.HISTOGRAM:
        return row.kind
    return f"{row.kind}: {', '.join(f'{bound:g}' for bound in row.buckets)}"


def render_metrics_body(render_table: Callable[[Row, Iterable[Row]], str]) -> str:
    sections = "\n".join(
        f"## {title}\n\n{render_table(METRICS_HEAD, build_metric_rows(metrics))}" for title, metrics in SECTIONS.items()
    )
    return f"""
# Metrics

`GET /metrics` needs no API key. Each process has its own values: sum counters and histograms over all replicas. Metrics
*of the store* have the same value at each replica: use `max without (instance)`, never a sum over replicas.

- A label has the same name everywhere. Its values are names in the configuration, routes, states or
  [faults](faults.md): never text of a request. `reason` is a fault, or `none`.
- `route` is the pattern of the path. Other paths to the same route, as Azure's or older clients use them, count as the
  one below `/v1`; `unknown` is every path that does not exist.
- One process has about 1,910 series besides those of the store, with the shipped configuration and everything in use
  ([how that was decided](decisions/2026-11-27-metrics.md)). Requests cannot create more.
- Scraped as OpenMetrics, histograms name a job of each bucket: its exemplar has the label `job_id`.
- The buckets of a histogram are listed behind its type, in seconds where its name says so. A quantile is an estimate
  between the bounds of its bucket; averages (`_sum / _count`) and the shares of jobs and orders that are slow are
  exact. Polls are whole numbers, so round their quantiles up: `ceil(histogram_quantile(…))`.
- Nothing is read from the store when Prometheus scrapes: each replica reads it every five seconds. Money is exact to
  the micro-USD, however often processes are killed ([why](decisions/2026-11-27-spend-metrics.md)). A counter of the
  store never falls, whichever replicas run, so what was spent in the last hour is
  `sum(max without (instance) (max_over_time(igw_spend_usd_total[1h])) - min without (instance)
  (min_over_time(igw_spend_usd_total[1h])))`. Spend less corrections is the sum of the ledger.
- A series that appears while a process runs is 0 for its first minute (with `--sandbox` for 20 seconds), so that
  `increase()` and `rate()` count its first value, too ([why](decisions/2026-11-27-first-values.md)). Scrape at least
  every 30 seconds.
- `team` is the name of one of the first 40 teams of `teams.yaml`, else `other`
  ([more than 40 teams](limits.md#metrics-of-more-than-40-teams)).

{sections}"""
