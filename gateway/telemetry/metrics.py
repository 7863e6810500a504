"""Counts events as Prometheus metrics. Money is not counted here: it is read from the store (`store_metrics.py`)."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from gateway import events
from gateway.access.budget_events import BudgetThresholdReached
from gateway.engine.moderation_events import ModerationAnswered
from gateway.jobs.job import JobState
from gateway.money import MICROS_PER_USD
from gateway.telemetry import metric_table as table
from gateway.telemetry import store_metric_table as store_table
from gateway.telemetry import webhook_metric_table as webhook_table
from gateway.telemetry.metric_families import MetricFamilies, Samples
from gateway.telemetry.metric_row import MetricRow
from gateway.webhooks.webhook_events import WebhookAttempted
from providers.faults import CONTENT_FAULTS, MODERATION_FAULTS, FaultKind
from providers.orders import Cell

# The prefixes of other paths to the same routes, as Azure's and older clients use them.
_ALIAS_PREFIXES = ("/openai/deployments/{deployment}", "/openai/v1", "/openai")
_UNVERSIONED_PATHS = ("/images/", "/responses", "/models", "/batches")
OPENMETRICS_TYPE, OPENMETRICS_VERSION, TEXT_VERSION = "application/openmetrics-text", "1.0.0", "0.0.4"
FIRST_CLIENT_ERROR, FIRST_SERVER_ERROR = 400, 500
# Faults whose reason is the request itself. They burn no error budget.
_FAULTS_OF_REQUESTS = CONTENT_FAULTS | {FaultKind.INVALID_ORDER}
# Faults of orders that are not the seller's.
_FAULTS_NOT_OF_SELLERS = _FAULTS_OF_REQUESTS | MODERATION_FAULTS


class Metrics:
    """An event sink: updates the metrics of this process and renders them.

    `zero_seconds`: for how long a new series is exported as 0.
    """

    def __init__(self, get_team_label: Callable[[str], str], clock: Callable[[], float], zero_seconds: float) -> None:
        self._get_team_label = get_team_label
        self._families = MetricFamilies(clock, zero_seconds)
        self._counters, self._histograms = self._families.counters, self._families.histograms

    def __call__(self, event: events.Event) -> None:
        if handler := _HANDLERS.get(type(event)):
            handler(self, event)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Renders all metrics in the format that the scraper accepts. Returns them with their media type. Only
        OpenMetrics has exemplars."""
        if OPENMETRICS_TYPE in accept:
            # The library has no types here.
            content: bytes = openmetrics.generate_latest(self._families.registry)  # type: ignore[no-untyped-call]
            return content, f"{OPENMETRICS_TYPE}; version={OPENMETRICS_VERSION}"
        return generate_latest(self._families.registry), f"text/plain; version={TEXT_VERSION}"

    def read_samples(self, readers: Mapping[MetricRow, Callable[[], Samples]]) -> None:
        """Reads these gauges and counters of the store at each scrape from now on. The readers must not do any I/O."""
        for row, read_samples in readers.items():
            self._families.sampled[row].read_samples = read_samples

    def observe_loop_lag(self, seconds: float) -> None:
        self._histograms[table.LOOP_LAG].observe(seconds)

    def count_dropped_spans(self, reason: str, count: int) -> None:
        """Counts spans that were not exported. Any thread may call it; no two with the same reason."""
        self._counters[table.SPANS_DROPPED].add(reason, amount=count)

    # --- one handler per event class

    def _on_store_committed(self, event: events.StoreCommitted) -> None:
        self._counters[table.STORE_COMMITS].add(event.outcome)
        self._histograms[table.STORE_COMMIT_DURATION].observe(event.seconds)

    def _on_request_completed(self, event: events.RequestCompleted) -> None:
        route = get_canonical_route(event.route)
        self._counters[table.HTTP_REQUESTS].add(route, event.method, str(event.status))
        if not FIRST_CLIENT_ERROR <= event.status < FIRST_SERVER_ERROR:
            self._histograms[table.HTTP_REQUEST_DURATION].observe(
                event.seconds, route, f"{event.status // 100}xx", job=event.job
            )
        if event.waited_seconds is not None:
            others_seconds = event.waited_seconds + event.client_seconds + event.fetch_seconds
            self._histograms[table.HTTP_OVERHEAD].observe(event.seconds - others_seconds, route, job=event.job)

    def _on_job_accepted(self, event: events.JobAccepted) -> None:
        self._counters[table.JOBS_ACCEPTED].add(self._get_team_label(event.team), event.model, event.policy)

    def _on_job_ended(self, event: events.JobEnded) -> None:
        team = self._get_team_label(event.team)
        self._counters[table.JOBS_ENDED].add(team, event.model, event.state, event.fault or "none")
        self._histograms[table.JOB_STATE_DURATION].observe(
            event.queued_seconds, JobState.QUEUED, event.state, job=event.job
        )
        progress_seconds = event.seconds - event.queued_seconds
        self._histograms[table.JOB_STATE_DURATION].observe(
            progress_seconds, JobState.IN_PROGRESS, event.state, job=event.job
        )
        labels = event.model, event.cell.resolution, event.cell.quality
        if event.state is JobState.COMPLETED:
            self._histograms[table.JOB_DURATION].observe(event.seconds, *labels, job=event.job)
        elif event.state is not JobState.CANCELLED and event.fault not in _FAULTS_OF_REQUESTS:
            self._counters[table.FAILED_JOBS].add(*labels)
            self._counters[table.FAILED_JOB_SECONDS].add(*labels, amount=max(0.0, event.seconds))

    def _on_attempt_ended(self, event: events.AttemptEnded) -> None:
        self._counters[table.ATTEMPTS_ENDED].add(event.seller, event.model, event.fault or "delivered")
        labels = event.seller, event.model, *_list_cell_labels(event.cell)
        if event.fault is None:
            self._histograms[table.ATTEMPT_DURATION].observe(event.seconds, *labels, job=event.job)
            # Also counts fast orders, as 0, so that the series exists before the first slow one.
            self._counters[table.SLOW_ORDERS].add(*labels, amount=float(_is_slow(event)))
        else:
            self._histograms[table.FAILED_ATTEMPT_DURATION].observe(event.seconds, event.seller, job=event.job)
            if event.fault not in _FAULTS_NOT_OF_SELLERS:
                self._counters[table.FAILED_ORDERS].add(*labels)
                self._counters[table.FAILED_ORDER_SECONDS].add(*labels, amount=max(0.0, event.seconds))

    def _on_order_slot_granted(self, event: events.OrderSlotGranted) -> None:
        self._histograms[table.SLOT_WAIT].observe(event.seconds, event.account, job=event.job)

    def _on_order_accepted(self, event: events.OrderAccepted) -> None:
        self._histograms[table.ACCEPTANCE_DURATION].observe(event.seconds, event.seller, job=event.job)

    def _on_order_observed(self, event: events.OrderObserved) -> None:
        self._histograms[table.POLLS].observe(event.polls, event.seller, job=event.job)
        self._histograms[table.DETECTION_LAG].observe(event.lag_seconds, event.seller, job=event.job)
        self._counters[table.CALLBACK_SAVINGS].add(event.seller, amount=event.saved_seconds)

    def _on_image_stored(self, event: events.ImageStored) -> None:
        self._histograms[table.DOWNLOAD_DURATION].observe(event.download_seconds, event.seller, job=event.job)
        self._histograms[table.STORE_DURATION].observe(event.store_seconds, job=event.job)
        if not event.is_as_ordered:
            self._counters[table.UNFAITHFUL_IMAGES].add(event.seller, event.model, *_list_cell_labels(event.cell))

    def _on_late_images_received(self, event: events.LateImagesReceived) -> None:
        self._counters[table.LATE_IMAGES].add(event.seller, amount=event.images)

    def _on_offer_skipped(self, event: events.OfferSkipped) -> None:
        self._counters[table.OFFERS_SKIPPED].add(event.seller, event.fault)

    def _on_failover_started(self, event: events.FailoverStarted) -> None:
        self._counters[table.FAILOVERS].add(event.from_seller, event.to_seller, event.reason or "none")

    def _on_price_mismatch(self, event: events.PriceMismatch) -> None:
        labels = event.seller, event.model, *_list_cell_labels(event.cell)
        direction = "above" if event.difference > 0 else "below"
        self._counters[table.PRICE_MISMATCHES].add(*labels)
        self._counters[table.PRICE_DRIFT].add(*labels, direction, amount=abs(event.difference) / MICROS_PER_USD)

    def _on_rate_limit_exceeded(self, event: events.RateLimitExceeded) -> None:
        self._counters[table.RATE_LIMITED_REQUESTS].add(self._get_team_label(event.team), event.owner, event.limit)

    def _on_job_reclaimed(self, event: events.JobReclaimed) -> None:
        self._counters[table.JOBS_RECLAIMED].add()

    def _on_webhook_attempted(self, event: WebhookAttempted) -> None:
        team = self._get_team_label(event.team)
        self._counters[webhook_table.WEBHOOK_ATTEMPTS].add(team, event.outcome)
        self._histograms[webhook_table.WEBHOOK_ATTEMPT_DURATION].observe(event.seconds)
        if event.delivery_status != "pending":
            self._counters[webhook_table.WEBHOOKS_ENDED].add(team, event.delivery_status)
        if event.delivery_status == "delivered":
            self._histograms[webhook_table.WEBHOOK_DELIVERY_DURATION].observe(event.age_seconds, job=event.job)

    def _on_moderation_answered(self, event: ModerationAnswered) -> None:
        self._counters[webhook_table.MODERATION_ANSWERS].add(
            self._get_team_label(event.team), event.hook, event.outcome
        )
        self._histograms[webhook_table.MODERATION_DURATION].observe(event.seconds, event.hook, job=event.job)

    def _on_batch_ended(self, event: events.BatchEnded) -> None:
        team = self._get_team_label(event.team)
        self._counters[table.BATCHES_ENDED].add(team, event.status)
        self._counters[table.BATCH_LINES].add(team, "completed", amount=event.completed)
        self._counters[table.BATCH_LINES].add(team, "failed", amount=event.failed)

    def _on_budget_threshold_reached(self, event: BudgetThresholdReached) -> None:
        owner = "team" if event.key is None else "key"
        labels = self._get_team_label(event.team), owner, event.window, str(event.threshold)
        self._counters[store_table.BUDGET_THRESHOLDS].add(*labels)

    def _on_error_reported(self, event: events.ErrorReported) -> None:
        self._counters[table.INTERNAL_ERRORS].add(event.component)
        if event.task is not None:
            self._counters[table.TASK_FAILURES].add(event.task)

    def _on_callback_handled(self, event: events.CallbackHandled) -> None:
        self._counters[table.CALLBACKS].add(event.adapter, event.outcome)

    def _on_config_reloaded(self, event: events.ConfigReloaded) -> None:
        self._counters[table.CONFIG_RELOADS].add("applied" if event.applied else "rejected")


_HANDLERS: dict[type[events.Event], Callable[[Metrics, Any], None]] = {
    events.RequestCompleted: Metrics._on_request_completed,
    events.JobAccepted: Metrics._on_job_accepted,
    events.JobEnded: Metrics._on_job_ended,
    events.AttemptEnded: Metrics._on_attempt_ended,
    events.OrderSlotGranted: Metrics._on_order_slot_granted,
    events.OrderAccepted: Metrics._on_order_accepted,
    events.OrderObserved: Metrics._on_order_observed,
    events.ImageStored: Metrics._on_image_stored,
    events.LateImagesReceived: Metrics._on_late_images_received,
    events.OfferSkipped: Metrics._on_offer_skipped,
    events.FailoverStarted: Metrics._on_failover_started,
    events.PriceMismatch: Metrics._on_price_mismatch,
    events.JobReclaimed: Metrics._on_job_reclaimed,
    events.RateLimitExceeded: Metrics._on_rate_limit_exceeded,
    events.ErrorReported: Metrics._on_error_reported,
    events.StoreCommitted: Metrics._on_store_committed,
    events.CallbackHandled: Metrics._on_callback_handled,
    events.BatchEnded: Metrics._on_batch_ended,
    WebhookAttempted: Metrics._on_webhook_attempted,
    ModerationAnswered: Metrics._on_moderation_answered,
    BudgetThresholdReached: Metrics._on_budget_threshold_reached,
    events.ConfigReloaded: Metrics._on_config_reloaded,
}


@cache
def get_canonical_route(route: str) -> str:
    """Returns the route below `/v1` for the other paths to it. There are as few values as routes."""
    for prefix in _ALIAS_PREFIXES:
        if route.startswith(prefix):
            return "/v1" + route.removeprefix(prefix)
    return "/v1" + route if route.startswith(_UNVERSIONED_PATHS) else route


def _is_slow(event: events.AttemptEnded) -> bool:
    expected_seconds = event.expected_seconds
    return expected_seconds is not None and event.seconds > table.SLOW_ORDER_FACTOR * expected_seconds


def _list_cell_labels(cell: Cell) -> tuple[str, str, str]:
    return cell.operation, cell.resolution, cell.quality
