"""The metrics of one process, made from the rows of the table, and their registry.

The series of each metric are kept by their label values, since Prometheus' own lookup locks and converts them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, Sample
from prometheus_client.registry import Collector

from gateway.telemetry.metric_row import MetricKind, MetricRow
from gateway.telemetry.metric_table import METRIC_TABLE, PROCESS_METRICS
from gateway.telemetry.new_series import NewSeries

Series = TypeVar("Series", Counter, Histogram)
# Label values and value of each series of a gauge.
Samples = Iterable[tuple[tuple[str, ...], float]]


class CountedMetric(Collector, Generic[Series]):
    """A counter or histogram of this process. The series that the table lists exist from the start. Others are created
    when they are first needed, and exported as 0 at first."""

    def __init__(self, row: MetricRow, metric: Series, new_series: NewSeries[tuple[str, ...]]) -> None:
        self._row, self._new_series = row, new_series
        self._metric: Series = metric
        self._series: dict[tuple[str, ...], Series] = {}
        for label_values in row.initial_label_sets:
            self._create(label_values)

    def get(self, *label_values: str) -> Series:
        series = self._series.get(label_values)
        if series is None:
            self._new_series.add(label_values)
            series = self._create(label_values)
        return series

    def _create(self, label_values: tuple[str, ...]) -> Series:
        # A metric without labels is its own only series.
        series = self._metric.labels(*label_values) if label_values else self._metric
        self._series[label_values] = series
        return series

    def collect(self) -> Iterator[Metric]:
        new_series = self._new_series.list_current()
        for family in self._metric.collect():
            if new_series:
                family.samples = [
                    sample._replace(value=0.0, exemplar=None) if self._get_labels(sample) in new_series else sample
                    for sample in family.samples
                ]
            yield family

    def _get_labels(self, sample: Sample) -> tuple[str, ...]:
        """Returns the label values of the series, without the bucket."""
        return tuple(sample.labels[name] for name in self._row.labels)


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
    """All metrics of the table, in its order, with a registry that renders them.

    `zero_seconds`: for how long a new series is exported as 0.
    """

    def __init__(self, clock: Callable[[], float], zero_seconds: float) -> None:
        # The `_created` series would be a third of all series, and nothing uses them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        self._clock, self._zero_seconds = clock, zero_seconds
        self.counters: dict[MetricRow, CountedMetric[Counter]] = {}
        self.histograms: dict[MetricRow, CountedMetric[Histogram]] = {}
        self.sampled: dict[MetricRow, SampledMetric] = {}
        for row in METRIC_TABLE:
            if row not in PROCESS_METRICS:
                self._create(row)
        ProcessCollector(registry=self.registry)

    def _create(self, row: MetricRow) -> None:
        match row.kind:
            case MetricKind.COUNTER if not row.is_from_store:
                counter = Counter(row.name, row.help, row.labels, registry=None)
                self.counters[row] = CountedMetric(row, counter, NewSeries(self._clock, self._zero_seconds))
                self.registry.register(self.counters[row])
            case MetricKind.HISTOGRAM:
                histogram = Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=None)
                self.histograms[row] = CountedMetric(row, histogram, NewSeries(self._clock, self._zero_seconds))
                self.registry.register(self.histograms[row])
            case _:
                self.sampled[row] = SampledMetric(row)
                self.registry.register(self.sampled[row])
