"""Events as Prometheus metrics. Labels come from closed sets: names in the configuration, states, faults, routes."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway import events
from gateway.catalogue import Cell
from gateway.jobs.transition_tables import LedgerLine
from gateway.money import MICROS_PER_USD

HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 30, 60, 120, 300)
ORDER_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600)
CELL_KEY_LABELS = ("operation", "resolution", "quality")


class Metrics:
    """A sink, and what it has counted."""

    def __init__(self) -> None:
        # When each series was first counted is of no use, and would be every third of them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        options: dict[str, Any] = {"registry": self.registry}
        self._requests = Histogram(
            "igw_http_request_seconds",
            "Time to answer a request.",
            ("route", "method", "status"),
            buckets=HTTP_BUCKETS,
            **options,
        )
        self._overhead = Histogram(
            "igw_http_overhead_seconds",
            "The gateway's own share of it: without waiting for a job.",
            ("route",),
            buckets=HTTP_BUCKETS,
            **options,
        )
        self._jobs = Histogram(
            "igw_job_seconds",
            "From acceptance to a job's end for its team.",
            ("model", "state"),
            buckets=ORDER_BUCKETS,
            **options,
        )
        self._attempts = Histogram(
            "igw_attempt_seconds",
            "From an attempt's opening to its end.",
            ("seller", "model", "outcome"),
            buckets=ORDER_BUCKETS,
            **options,
        )
        self._images = Counter(
            "igw_images", "Images delivered.", ("team", "seller", "model", *CELL_KEY_LABELS), **options
        )
        self._spend = Counter(
            "igw_spend_usd",
            "Money spent: captured for teams, orphaned, suspected, billed in excess.",
            ("team", "seller", "model", *CELL_KEY_LABELS, "line"),
            **options,
        )
        self._spend_corrections = Counter(
            "igw_spend_corrected_usd",
            "Money of igw_spend_usd that turned out not to have been spent.",
            ("team", "seller", "model", *CELL_KEY_LABELS, "line"),
            **options,
        )
        self._failovers = Counter("igw_failovers", "Orders placed elsewhere.", ("before", "after", "reason"), **options)
        self._price_mismatches = Counter(
            "igw_price_drifts", "Orders charged at another price.", ("seller", *CELL_KEY_LABELS), **options
        )
        self._reclaims = Counter("igw_rescues", "Jobs taken over from an owner that is gone.", **options)
        self._errors = Counter("igw_troubles", "Things of ours that do not work.", ("where",), **options)
        self._task_failures = Counter("igw_task_failures", "Failures of long-lived tasks.", ("task",), **options)
        self._callbacks = Counter(
            "igw_callbacks", "Callbacks received, by what they turned out to be.", ("adapter", "worth"), **options
        )
        self._reloads = Counter("igw_config_reloads", "Configurations read again.", ("outcome",), **options)
        self._accepted_jobs = Counter("igw_jobs_accepted", "Jobs accepted.", ("team", "model", "policy"), **options)

    def __call__(self, event: events.Event) -> None:
        if handler := _HANDLERS.get(type(event)):
            handler(self, event)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def register_gauges(self, collect_gauges: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        """Values that are looked up when somebody asks."""
        self.registry.register(_GaugeCollector(collect_gauges))

    # --- events

    def _on_request_completed(self, event: events.RequestCompleted) -> None:
        self._requests.labels(event.route, event.method, str(event.status)).observe(event.seconds)
        self._overhead.labels(event.route).observe(max(0.0, event.seconds - event.waited_seconds))

    def _on_job_accepted(self, event: events.JobAccepted) -> None:
        self._accepted_jobs.labels(event.team, event.model, event.policy).inc()

    def _on_job_ended(self, event: events.JobEnded) -> None:
        self._jobs.labels(event.model, event.state).observe(event.seconds)

    def _on_attempt_ended(self, event: events.AttemptEnded) -> None:
        outcome = str(event.fault or "delivered")
        self._attempts.labels(event.seller, event.model, outcome).observe(event.seconds)

    def _on_ledger_entry_posted(self, event: events.LedgerEntryPosted) -> None:
        labels = (event.team, event.seller, event.model, *_cell_label_values(event.cell))
        counter = self._spend if event.amount >= 0 else self._spend_corrections
        counter.labels(*labels, event.line).inc(abs(event.amount) / MICROS_PER_USD)
        if event.line is LedgerLine.CAPTURE and event.images > 0:
            self._images.labels(*labels).inc(event.images)

    def _on_failover_started(self, event: events.FailoverStarted) -> None:
        self._failovers.labels(event.from_seller, event.to_seller, str(event.reason or "missing")).inc()

    def _on_price_mismatch(self, event: events.PriceMismatch) -> None:
        self._price_mismatches.labels(event.seller, *_cell_label_values(event.cell)).inc()

    def _on_job_reclaimed(self, event: events.JobReclaimed) -> None:
        self._reclaims.inc()

    def _on_error_reported(self, event: events.ErrorReported) -> None:
        self._errors.labels(event.component).inc()
        if event.task is not None:
            self._task_failures.labels(event.task).inc()

    def _on_callback_handled(self, event: events.CallbackHandled) -> None:
        self._callbacks.labels(event.adapter, event.outcome).inc()

    def _on_config_reloaded(self, event: events.ConfigReloaded) -> None:
        self._reloads.labels("taken" if event.applied else "refused").inc()


_HANDLERS: dict[type[events.Event], Callable[[Metrics, Any], None]] = {
    events.RequestCompleted: Metrics._on_request_completed,
    events.JobAccepted: Metrics._on_job_accepted,
    events.JobEnded: Metrics._on_job_ended,
    events.AttemptEnded: Metrics._on_attempt_ended,
    events.LedgerEntryPosted: Metrics._on_ledger_entry_posted,
    events.FailoverStarted: Metrics._on_failover_started,
    events.PriceMismatch: Metrics._on_price_mismatch,
    events.JobReclaimed: Metrics._on_job_reclaimed,
    events.ErrorReported: Metrics._on_error_reported,
    events.CallbackHandled: Metrics._on_callback_handled,
    events.ConfigReloaded: Metrics._on_config_reloaded,
}


class _GaugeCollector(Collector):
    def __init__(self, collect_gauges: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        self._collect_gauges = collect_gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return self._collect_gauges()


def _cell_label_values(cell: Cell) -> tuple[str, str, str]:
    return cell.operation, cell.resolution, cell.quality
