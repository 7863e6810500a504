"""The metrics of one process, made from the rows of the table, and their registry.

Events are counted in plain numbers, which the library renders at a scrape. Its own counters and histograms lock, and
check their arguments, at each of the twenty observations of a request. The series that the table lists exist from the
start. Others are created when they are first needed, and exported as 0 at first.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from math import inf
from time import time

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.telemetry.metric_row import MetricKind, MetricRow
from gateway.telemetry.metric_table import METRIC_TABLE, PROCESS_METRICS
from gateway.telemetry.new_series import NewSeries

EXEMPLAR_LABEL = "job_id"
LabelValues = tuple[str, ...]
# Label values and value of each series.
Samples = Iterable[tuple[LabelValues, float]]


class SampledMetric(Collector):
    """A gauge, or a counter of the store. Its series are read from `read_samples` at each scrape."""

    def __init__(self, row: MetricRow) -> None:
        self._row = row
        self.read_samples: Callable[[], Samples] = tuple

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        make_family = CounterMetricFamily if self._row.kind is MetricKind.COUNTER else GaugeMetricFamily
        family = make_family(self._row.name, self._row.help, labels=self._row.labels)
        for label_values, value in self.read_samples():
            family.add_metric(label_values, value)
        yield family


class EventCounter(Collector):
    """A counter of events, or of amounts that events have."""

    def __init__(self, row: MetricRow, new_series: NewSeries[LabelValues]) -> None:
        self._row, self._new_series = row, new_series
        self._counts = dict.fromkeys(row.initial_label_sets, 0.0)

    def add(self, *label_values: str, amount: float = 1) -> None:
        count = self._counts.get(label_values)
        if count is None:
            self._new_series.add(label_values)
            count = 0.0
        self._counts[label_values] = count + amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        new_series = self._new_series.list_current()
        for label_values, count in self._counts.items():
            family.add_metric(label_values, 0.0 if label_values in new_series else count)
        yield family


class HistogramSeries(Struct, eq=False):
    """One series: the number of values in each bucket alone, their sum, and the last exemplar of each bucket, which has
    the id of a job, the value and its time."""

    counts: list[int]
    exemplars: list[tuple[str, float, float] | None]
    total: float = 0.0


class EventHistogram(Collector):
    """A histogram of values that events have."""

    def __init__(self, row: MetricRow, new_series: NewSeries[LabelValues]) -> None:
        self._row, self._new_series = row, new_series
        self._series = {label_values: self._make_series() for label_values in row.initial_label_sets}

    def _make_series(self) -> HistogramSeries:
        # The last bucket has no bound.
        size = len(self._row.buckets) + 1
        return HistogramSeries([0] * size, [None] * size)

    def observe(self, value: float, *label_values: str, job: str | None = None) -> None:
        """Counts a value, a negative one as 0. `job`: its id is the exemplar of the bucket."""
        value = max(0.0, value)
        series = self._series.get(label_values)
        if series is None:
            self._new_series.add(label_values)
            series = self._series[label_values] = self._make_series()
        bucket = bisect_left(self._row.buckets, value)
        series.counts[bucket] += 1
        series.total += value
        if job is not None:
            series.exemplars[bucket] = job, value, time()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._row.name, self._row.help, labels=self._row.labels)
        bounds = [floatToGoString(bound) for bound in (*self._row.buckets, inf)]  # type: ignore[no-untyped-call]
        new_series, zeros = self._new_series.list_current(), self._make_series()
        for label_values, series in self._series.items():
            exported = zeros if label_values in new_series else series
            buckets = list(map(_make_bucket, bounds, accumulate(exported.counts), exported.exemplars))
            family.add_metric(label_values, buckets, exported.total)
        yield family


def _make_bucket(
    bound: str, count: int, exemplar: tuple[str, float, float] | None
) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if exemplar is None:
        return bound, count
    job, value, observed_at = exemplar
    return bound, count, Exemplar({EXEMPLAR_LABEL: job}, value, observed_at)


class MetricFamilies:
    """All metrics of the table, in its order, with a registry that renders them.

    `zero_seconds`: for how long a new series is exported as 0.
    """

    def __init__(self, clock: Callable[[], float], zero_seconds: float) -> None:
        self.registry = CollectorRegistry()
        self._clock, self._zero_seconds = clock, zero_seconds
        self.counters: dict[MetricRow, EventCounter] = {}
        self.histograms: dict[MetricRow, EventHistogram] = {}
        self.sampled: dict[MetricRow, SampledMetric] = {}
        for row in METRIC_TABLE:
            if row not in PROCESS_METRICS:
                self.registry.register(self._create(row))
        ProcessCollector(registry=self.registry)

    def _create(self, row: MetricRow) -> Collector:
        match row.kind:
            case MetricKind.COUNTER if not row.is_from_store:
                counter = self.counters[row] = EventCounter(row, NewSeries(self._clock, self._zero_seconds))
                return counter
            case MetricKind.HISTOGRAM:
                histogram = self.histograms[row] = EventHistogram(row, NewSeries(self._clock, self._zero_seconds))
                return histogram
            case _:
                sampled = self.sampled[row] = SampledMetric(row)
                return sampled
