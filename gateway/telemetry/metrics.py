"""Events as Prometheus metrics. Labels come from closed sets: names in the configuration, states, faults, routes."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway import events
from gateway.catalogue import Cell
from gateway.jobs.tables import Line
from gateway.money import MICROS

HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 30, 60, 120, 300)
ORDER_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600)
CELL = ("operation", "resolution", "quality")


class Metrics:
    """A sink, and what it has counted."""

    def __init__(self) -> None:
        # When each series was first counted is of no use, and would be every third of them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        make: dict[str, Any] = {"registry": self.registry}
        self._requests = Histogram(
            "igw_http_request_seconds",
            "Time to answer a request.",
            ("route", "method", "status"),
            buckets=HTTP_BUCKETS,
            **make,
        )
        self._overhead = Histogram(
            "igw_http_overhead_seconds",
            "The gateway's own share of it: without waiting for a job.",
            ("route",),
            buckets=HTTP_BUCKETS,
            **make,
        )
        self._jobs = Histogram(
            "igw_job_seconds",
            "From acceptance to a job's end for its team.",
            ("model", "state"),
            buckets=ORDER_BUCKETS,
            **make,
        )
        self._attempts = Histogram(
            "igw_attempt_seconds",
            "From an attempt's opening to its end.",
            ("seller", "model", "outcome"),
            buckets=ORDER_BUCKETS,
            **make,
        )
        self._images = Counter("igw_images", "Images delivered.", ("team", "seller", "model", *CELL), **make)
        self._spend = Counter(
            "igw_spend_usd",
            "Money spent: captured for teams, orphaned, suspected, billed in excess.",
            ("team", "seller", "model", *CELL, "line"),
            **make,
        )
        self._corrected = Counter(
            "igw_spend_corrected_usd",
            "Money of igw_spend_usd that turned out not to have been spent.",
            ("team", "seller", "model", *CELL, "line"),
            **make,
        )
        self._failovers = Counter("igw_failovers", "Orders placed elsewhere.", ("before", "after", "reason"), **make)
        self._drifts = Counter("igw_price_drifts", "Orders charged at another price.", ("seller", *CELL), **make)
        self._rescues = Counter("igw_rescues", "Jobs taken over from an owner that is gone.", **make)
        self._troubles = Counter("igw_troubles", "Things of ours that do not work.", ("where",), **make)
        self._failures = Counter("igw_task_failures", "Failures of long-lived tasks.", ("task",), **make)
        self._callbacks = Counter(
            "igw_callbacks", "Callbacks received, by what they turned out to be.", ("adapter", "worth"), **make
        )
        self._reloads = Counter("igw_config_reloads", "Configurations read again.", ("outcome",), **make)
        self._accepted = Counter("igw_jobs_accepted", "Jobs accepted.", ("team", "model", "policy"), **make)

    def __call__(self, event: events.Event) -> None:
        if sink := _SINKS.get(type(event)):
            sink(self, event)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def watch_gauges(self, gauges: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        """Values that are looked up when somebody asks."""
        self.registry.register(_Looked(gauges))

    # --- events

    def _answered(self, event: events.RequestAnswered) -> None:
        self._requests.labels(event.route, event.method, str(event.status)).observe(event.seconds)
        self._overhead.labels(event.route).observe(max(0.0, event.seconds - event.waited))

    def _job_accepted(self, event: events.JobAccepted) -> None:
        self._accepted.labels(event.team, event.model, event.policy).inc()

    def _job_ended(self, event: events.JobEnded) -> None:
        self._jobs.labels(event.model, event.state).observe(event.seconds)

    def _attempt_ended(self, event: events.AttemptEnded) -> None:
        outcome = str(event.fault or "delivered")
        self._attempts.labels(event.seller, event.model, outcome).observe(event.seconds)

    def _booked(self, event: events.MoneyBooked) -> None:
        labels = (event.team, event.seller, event.model, *_cell(event.cell))
        counter = self._spend if event.amount >= 0 else self._corrected
        counter.labels(*labels, event.line).inc(abs(event.amount) / MICROS)
        if event.line is Line.CAPTURE and event.images > 0:
            self._images.labels(*labels).inc(event.images)

    def _failed_over(self, event: events.FailedOver) -> None:
        self._failovers.labels(event.before, event.after, str(event.reason or "missing")).inc()

    def _drifted(self, event: events.PriceDrifted) -> None:
        self._drifts.labels(event.seller, *_cell(event.cell)).inc()

    def _rescued(self, event: events.JobRescued) -> None:
        self._rescues.inc()

    def _trouble(self, event: events.Trouble) -> None:
        self._troubles.labels(event.where).inc()
        if event.task is not None:
            self._failures.labels(event.task).inc()

    def _callback_received(self, event: events.CallbackReceived) -> None:
        self._callbacks.labels(event.adapter, event.worth).inc()

    def _reloaded(self, event: events.Reloaded) -> None:
        self._reloads.labels("taken" if event.taken else "refused").inc()


_SINKS: dict[type[events.Event], Callable[[Metrics, Any], None]] = {
    events.RequestAnswered: Metrics._answered,
    events.JobAccepted: Metrics._job_accepted,
    events.JobEnded: Metrics._job_ended,
    events.AttemptEnded: Metrics._attempt_ended,
    events.MoneyBooked: Metrics._booked,
    events.FailedOver: Metrics._failed_over,
    events.PriceDrifted: Metrics._drifted,
    events.JobRescued: Metrics._rescued,
    events.Trouble: Metrics._trouble,
    events.CallbackReceived: Metrics._callback_received,
    events.Reloaded: Metrics._reloaded,
}


class _Looked(Collector):
    def __init__(self, gauges: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return self._gauges()


def _cell(cell: Cell) -> tuple[str, str, str]:
    return cell.operation, cell.resolution, cell.quality
