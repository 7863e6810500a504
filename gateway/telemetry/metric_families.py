"""The metrics of one process, made from the rows of the table, and their registry.

The series of each metric are kept by their label values, since Prometheus' own lookup locks and converts them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.telemetry.metric_row import MetricKind, MetricRow
from gateway.telemetry.metric_table import METRIC_TABLE, PROCESS_METRICS

Series = TypeVar("Series", Counter, Histogram)
# Label values and value of each series of a gauge.
Samples = Iterable[tuple[tuple[str, ...], float]]


class SeriesCache(Generic[Series]):
    """Finds the series of a metric by its label values. Creates it when it is first needed."""

    def __init__(self, metric: Series, initial_label_sets: Iterable[tuple[str, ...]]) -> None:
        self._metric: Series = metric
        self._series: dict[tuple[str, ...], Series] = {}
        for label_values in initial_label_sets:
            self.get(*label_values)

    def get(self, *label_values: str) -> Series:
        series = self._series.get(label_values)
        if series is None:
            # A metric without labels is its own only series.
            series = self._metric.labels(*label_values) if label_values else self._metric
            self._series[label_values] = series
        return series


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


class MetricFamilies:
    """All metrics of the table, in its order, with a registry that renders them."""

    def __init__(self) -> None:
        # The `_created` series would be a third of all series, and nothing uses them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        self.counters: dict[MetricRow, SeriesCache[Counter]] = {}
        self.histograms: dict[MetricRow, SeriesCache[Histogram]] = {}
        self.sampled: dict[MetricRow, SampledMetric] = {}
        for row in METRIC_TABLE:
            if row not in PROCESS_METRICS:
                self._create(row)
        ProcessCollector(registry=self.registry)

    def _create(self, row: MetricRow) -> None:
        match row.kind:
            case MetricKind.COUNTER if not row.is_from_store:
                counter = Counter(row.name, row.help, row.labels, registry=self.registry)
                self.counters[row] = SeriesCache(counter, row.initial_label_sets)
            case MetricKind.HISTOGRAM:
                histogram = Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=self.registry)
                self.histograms[row] = SeriesCache(histogram, row.initial_label_sets)
            case _:
                self.sampled[row] = SampledMetric(row)
                self.registry.register(self.sampled[row])
