"""Counts events as Prometheus metrics.

Label values come from closed sets: names in the configuration, states, fault kinds and routes.
"""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway import events
from gateway.jobs.transition_tables import LedgerLine
from gateway.money import MICROS_PER_USD
from providers.orders import Cell

HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 30, 60, 120, 300)
ORDER_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600)
CELL_KEY_LABELS = ("operation", "resolution", "quality")


class Metrics:
    """An event sink: updates the metrics of this process and renders them."""

    def __init__(self) -> None:
        # The `_created` series would be a third of all series, and nothing uses them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        # In this order they are rendered.
        self._create_request_metrics()
        self._create_job_metrics()
        self._create_money_metrics()
        self._create_seller_metrics()
        self._create_operation_metrics()

    def _create_request_metrics(self) -> None:
        self._requests = self._create_histogram(
            "igw_http_request_seconds",
            "Seconds from a request to the end of its response.",
            ("route", "method", "status"),
            HTTP_BUCKETS,
        )
        self._overhead = self._create_histogram(
            "igw_http_overhead_seconds",
            "Seconds of igw_http_request_seconds without those spent waiting for a job.",
            ("route",),
            HTTP_BUCKETS,
        )

    def _create_job_metrics(self) -> None:
        self._jobs = self._create_histogram(
            "igw_job_seconds", "Seconds from a job's acceptance to its final state.", ("model", "state"), ORDER_BUCKETS
        )
        self._attempts = self._create_histogram(
            "igw_attempt_seconds",
            "Seconds from an attempt's start to its end.",
            ("seller", "model", "outcome"),
            ORDER_BUCKETS,
        )

    def _create_money_metrics(self) -> None:
        self._images = self._create_counter(
            "igw_images_delivered", "Images delivered.", ("team", "seller", "model", *CELL_KEY_LABELS)
        )
        self._spend = self._create_counter(
            "igw_spend_usd",
            "Money spent in USD, by ledger line: capture, orphan, suspected, excess.",
            ("team", "seller", "model", *CELL_KEY_LABELS, "line"),
        )
        self._spend_corrections = self._create_counter(
            "igw_spend_corrections_usd",
            "Amounts of igw_spend_usd that turned out not to have been charged.",
            ("team", "seller", "model", *CELL_KEY_LABELS, "line"),
        )

    def _create_seller_metrics(self) -> None:
        self._failovers = self._create_counter(
            "igw_failovers", "Orders sent to another seller after a failure.", ("from_seller", "to_seller", "reason")
        )
        self._price_mismatches = self._create_counter(
            "igw_price_mismatches",
            "Orders for which the seller did not charge its configured price.",
            ("seller", *CELL_KEY_LABELS),
        )
        self._reclaims = self._create_counter(
            "igw_jobs_reclaimed", "Jobs claimed after the lease of their previous worker expired."
        )

    def _create_operation_metrics(self) -> None:
        self._rate_limited = self._create_counter(
            "igw_rate_limited",
            "Requests refused because of a rate limit of the team or of the API key.",
            ("team", "owner", "limit"),
        )
        self._batches = self._create_counter("igw_batches", "Batches that ended, by status.", ("team", "status"))
        self._batch_lines = self._create_counter(
            "igw_batch_lines", "Lines of batches that ended, by outcome: completed or failed.", ("team", "outcome")
        )
        self._errors = self._create_counter("igw_internal_errors", "Internal errors by component.", ("component",))
        self._task_failures = self._create_counter("igw_task_failures", "Failures of supervised tasks.", ("task",))
        self._callbacks = self._create_counter(
            "igw_callbacks", "Callbacks received, by outcome.", ("adapter", "outcome")
        )
        self._reloads = self._create_counter(
            "igw_config_reloads", "Configuration reloads, by outcome: applied or rejected.", ("outcome",)
        )
        self._accepted_jobs = self._create_counter("igw_jobs_accepted", "Jobs accepted.", ("team", "model", "policy"))

    def _create_histogram(
        self, name: str, description: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, description, labels, buckets=buckets, registry=self.registry)

    def _create_counter(self, name: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, description, labels, registry=self.registry)

    def __call__(self, event: events.Event) -> None:
        if handler := _HANDLERS.get(type(event)):
            handler(self, event)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def register_gauges(self, collect_gauges: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        """Registers gauges that are collected at each scrape."""
        self.registry.register(_GaugeCollector(collect_gauges))

    # --- one handler per event class

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
        self._failovers.labels(event.from_seller, event.to_seller, str(event.reason or "none")).inc()

    def _on_price_mismatch(self, event: events.PriceMismatch) -> None:
        self._price_mismatches.labels(event.seller, *_cell_label_values(event.cell)).inc()

    def _on_rate_limit_exceeded(self, event: events.RateLimitExceeded) -> None:
        self._rate_limited.labels(event.team, event.owner, event.limit).inc()

    def _on_job_reclaimed(self, event: events.JobReclaimed) -> None:
        self._reclaims.inc()

    def _on_batch_ended(self, event: events.BatchEnded) -> None:
        self._batches.labels(event.team, event.status).inc()
        self._batch_lines.labels(event.team, "completed").inc(event.completed)
        self._batch_lines.labels(event.team, "failed").inc(event.failed)

    def _on_error_reported(self, event: events.ErrorReported) -> None:
        self._errors.labels(event.component).inc()
        if event.task is not None:
            self._task_failures.labels(event.task).inc()

    def _on_callback_handled(self, event: events.CallbackHandled) -> None:
        self._callbacks.labels(event.adapter, event.outcome).inc()

    def _on_config_reloaded(self, event: events.ConfigReloaded) -> None:
        self._reloads.labels("applied" if event.applied else "rejected").inc()


_HANDLERS: dict[type[events.Event], Callable[[Metrics, Any], None]] = {
    events.RequestCompleted: Metrics._on_request_completed,
    events.JobAccepted: Metrics._on_job_accepted,
    events.JobEnded: Metrics._on_job_ended,
    events.AttemptEnded: Metrics._on_attempt_ended,
    events.LedgerEntryPosted: Metrics._on_ledger_entry_posted,
    events.FailoverStarted: Metrics._on_failover_started,
    events.PriceMismatch: Metrics._on_price_mismatch,
    events.JobReclaimed: Metrics._on_job_reclaimed,
    events.RateLimitExceeded: Metrics._on_rate_limit_exceeded,
    events.ErrorReported: Metrics._on_error_reported,
    events.CallbackHandled: Metrics._on_callback_handled,
    events.BatchEnded: Metrics._on_batch_ended,
    events.ConfigReloaded: Metrics._on_config_reloaded,
}


class _GaugeCollector(Collector):
    def __init__(self, collect_gauges: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        self._collect_gauges = collect_gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return self._collect_gauges()


def _cell_label_values(cell: Cell) -> tuple[str, str, str]:
    return cell.operation, cell.resolution, cell.quality
