"""What a dashboard consists of. Each dashboard is a module that describes itself with these, and `dashboard_builder.py`
makes Grafana's JSON of it."""

from dataclasses import dataclass
from enum import StrEnum

# Variables of queries. Each has the values of a label; "All" is a pattern that matches every value.
FILTERS = ("team", "seller", "model")
# Grafana's window for rates: four scrape intervals, or longer if a pixel stands for more.
RATE = "$__rate_interval"


class PanelKind(StrEnum):
    """How a panel shows its series.

    STACK: lines on top of each other; TIMELINE: states over time; MATRIX: two labels as rows and columns.
    """

    LINES = "lines"
    STACK = "stack"
    NUMBER = "number"
    BARS = "bars"
    TABLE = "table"
    TIMELINE = "timeline"
    MATRIX = "matrix"


class Unit(StrEnum):
    """Grafana's names of units."""

    COUNT = "short"
    SECONDS = "s"
    USD = "currencyUSD"
    SHARE = "percentunit"
    PER_SECOND = "reqps"
    BYTES = "bytes"
    STATE = "none"
    TIME = "dateTimeFromNow"


@dataclass(frozen=True)
class Query:
    """One query. `has_exemplars`: of a latency histogram, whose exemplars link to jobs."""

    expr: str
    legend: str = ""
    has_exemplars: bool = False


@dataclass(frozen=True)
class Limit:
    """From this value on a panel has this colour."""

    value: float
    color: str


def warn_from(value: float) -> Limit:
    return Limit(value, "orange")


def alarm_from(value: float) -> Limit:
    return Limit(value, "red")


def fine_from(value: float) -> Limit:
    return Limit(value, "green")


@dataclass(frozen=True)
class Panel:
    """One panel.

    `limits`: thresholds above green; with `is_falling` above red, so that the last one is green.
    `state_names`: text and colour of values.
    `matrix`: the labels of its rows and columns. `runbook`:
    the section of the runbook that it links to. `when_empty`: why it may have no data, which it shows then; a panel
    without it always has data.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit
    kind: PanelKind = PanelKind.LINES
    width: int = 8
    height: int = 8
    limits: tuple[Limit, ...] = ()
    is_falling: bool = False
    state_names: tuple[tuple[int, str, str], ...] = ()
    matrix: tuple[str, str] = ("resolution", "quality")
    decimals: int | None = None
    runbook: str = ""
    when_empty: str = ""


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. `rows`: panels by the title of their row. `filters`: those of FILTERS that its queries use."""

    uid: str
    title: str
    description: str
    filters: tuple[str, ...]
    rows: dict[str, tuple[Panel, ...]]

    @property
    def panels(self) -> list[Panel]:
        return [panel for panels in self.rows.values() for panel in panels]


def select(*filters: str, more: str = "") -> str:
    """Returns label matchers for these variables, and `more`."""
    matchers = [f'{name}=~"${name}"' for name in filters]
    return "{" + ",".join([*matchers, *([more] if more else [])]) + "}"


def rate(metric: str, selector: str = "", window: str = RATE) -> str:
    return f"rate({metric}{selector}[{window}])"


def sum_by(expr: str, *labels: str) -> str:
    return f"sum by ({', '.join(labels)}) ({expr})" if labels else f"sum({expr})"


def per_hour(expr: str) -> str:
    return f"3600 * {expr}"


def rate_of_stored(metric: str, selector: str, labels: tuple[str, ...], by: tuple[str, ...], offset: str = "") -> str:
    """Returns the rate of a counter with these labels that is read from the store: all replicas have the same value."""
    moment = f" offset {offset}" if offset else ""
    return sum_by(f"max by ({', '.join(labels)}) (rate({metric}{selector}[{RATE}]{moment}))", *by)


def increase_of_stored(metric: str, selector: str, labels: tuple[str, ...], by: tuple[str, ...]) -> str:
    """Returns by how much such a counter grew in the selected time. It never falls, so this is exact, also if replicas
    start and end."""
    names = ", ".join(labels)
    highest = f"max by ({names}) (max_over_time({metric}{selector}[$__range]))"
    lowest = f"min by ({names}) (min_over_time({metric}{selector}[$__range]))"
    return sum_by(f"{highest} - {lowest}", *by)


def quantile(share: float, metric: str, selector: str = "", by: tuple[str, ...] = ()) -> str:
    """Returns a quantile of a histogram over all replicas."""
    return f"histogram_quantile({share}, {sum_by(rate(f'{metric}_bucket', selector), 'le', *by)})"


def average(metric: str, selector: str = "", by: tuple[str, ...] = ()) -> str:
    """Returns the average of what a histogram counted, which is exact, over all replicas."""
    total, count = (sum_by(rate(f"{metric}_{part}", selector), *by) for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def make_quantile_queries(metric: str, selector: str = "", *, exemplars: bool = False) -> tuple[Query, ...]:
    """Returns queries of the median, and of what one of 20 and one of 100 exceeds."""
    return tuple(
        Query(quantile(share, metric, selector), name, has_exemplars=exemplars)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )
