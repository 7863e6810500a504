"""The table of metrics: names, labels, and that each row is fed."""

import re
import time
from itertools import pairwise
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from gateway import events
from gateway.access import budget_events
from gateway.api.application import ROUTE_HANDLERS
from gateway.engine import account_events, canary_events, moderation_events
from gateway.events import COMPONENTS, CommitResult, Event, StoreCommitted
from gateway.jobs.job import JobState
from gateway.telemetry.gauges import GaugeReader
from gateway.telemetry.metric_row import MetricKind, MetricRow
from gateway.telemetry.metric_table import (
    IMAGE_BUCKETS,
    METRIC_TABLE,
    POLLS,
    PROCESS_METRICS,
    STATE_BUCKETS,
    STORE_COMMIT_DURATION,
)
from gateway.telemetry.metrics import Metrics, get_canonical_route
from gateway.telemetry.spans import QUEUE_FULL
from gateway.telemetry.store_metrics import StoreMetricReader
from gateway.webhooks import webhook_events
from providers.faults import FaultKind
from tests.unit.telemetry.sample_events import ATTEMPT_ENDED, JOB_ENDED, SAMPLE_EVENTS

ROOT = Path(__file__).parent.parent.parent.parent
LABELS = {
    *("team", "seller", "account", "model", "operation", "resolution", "quality", "route", "outcome", "reason"),
    *("method", "status", "status_class", "policy", "owner", "threshold", "limit", "line", "from_seller", "to_seller"),
    *("adapter", "component", "task", "state", "direction", "budget", "hash", "version", "window", "replica", "hook"),
}
# Those that the gateway feeds itself.
OWN_METRICS = [row for row in METRIC_TABLE if row not in PROCESS_METRICS]
# Names end in a unit, except counts of things.
UNITS = ("_seconds", "_bytes", "_usd", "_ratio", "_state")


def make_metrics() -> Metrics:
    return Metrics(get_team_label=str, clock=time.monotonic, zero_seconds=0.0)


def read_values(metrics: Metrics) -> dict[str, float]:
    """Returns the sum of the series of each counter and histogram, by the name in the table."""
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: sum(
            sample.value for sample in family.samples if sample.name.endswith(("_total", "_count"))
        )
        for family in families
    }


@pytest.mark.parametrize("row", METRIC_TABLE, ids=lambda row: row.name)
def test_row_keeps_the_naming_rules(row: MetricRow) -> None:
    assert re.fullmatch(r"(igw|process)_[a-z]+(_[a-z]+)*", row.name)
    assert row.name.endswith("_total") == (row.kind is MetricKind.COUNTER)
    assert bool(row.buckets) == (row.kind is MetricKind.HISTOGRAM)
    assert list(row.buckets) == sorted(set(row.buckets))
    assert set(row.labels) <= LABELS, "a label has one name in all metrics"
    assert re.fullmatch(r"[A-Z0-9].{12,}\.", row.help)
    assert not row.initial_values or len(row.initial_values) == len(row.labels)
    if row.kind is MetricKind.HISTOGRAM and row is not POLLS:
        assert row.name.endswith(UNITS)


def test_buckets_are_fine_where_values_lie() -> None:
    """A quantile is estimated within its bucket."""
    images = [bound for bound in IMAGE_BUCKETS if 5 <= bound <= 120]
    assert (images[0], images[-1]) == (5, 120)
    assert max(upper / lower for lower, upper in pairwise(images)) <= 1.5
    waits = [bound for bound in STATE_BUCKETS if bound <= 2]
    assert (waits[0], waits[-1]) == (0.005, 2)
    assert max(upper / lower for lower, upper in pairwise(waits)) <= 2.5


@pytest.mark.parametrize(("seconds", "slow"), [(59.9, 0), (60.0, 0), (60.1, 1)])
def test_order_is_slow_from_twice_its_expected_time(seconds: float, slow: int) -> None:
    metrics = make_metrics()
    metrics(replace(ATTEMPT_ENDED, seconds=seconds, expected_seconds=30.0))
    values = read_values(metrics)
    assert (values["igw_slow_orders_total"], values["igw_attempt_duration_seconds"]) == (slow, 1)
    assert "igw_slow_orders_total{" in metrics.render()[0].decode(), "also before the first slow order"


def test_order_of_a_removed_offer_is_not_slow() -> None:
    metrics = make_metrics()
    metrics(replace(ATTEMPT_ENDED, expected_seconds=None))
    assert read_values(metrics)["igw_slow_orders_total"] == 0


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        (None, 0),
        (FaultKind.ORDER_TIMED_OUT, 1),
        (FaultKind.CONTENT_REFUSED, 0),
        (FaultKind.INVALID_ORDER, 0),
        (FaultKind.IMAGE_WITHHELD, 0),
        (FaultKind.IMAGE_UNMODERATED, 0),
    ],
)
def test_failed_orders_and_their_time_are_counted_by_cell(fault: FaultKind | None, failed: int) -> None:
    metrics = make_metrics()
    metrics(replace(ATTEMPT_ENDED, seconds=420.0, fault=fault))
    cell = '{model="m",operation="generate",quality="high",resolution="1k",seller="s"}'
    text = metrics.render()[0].decode()
    assert (f"igw_failed_orders_total{cell} 1.0" in text) == bool(failed)
    assert (f"igw_failed_order_seconds_total{cell} 420.0" in text) == bool(failed)
    assert read_values(metrics)["igw_attempt_duration_seconds"] == (fault is None)


@pytest.mark.parametrize(
    ("state", "fault", "failed"),
    [
        (JobState.COMPLETED, None, 0),
        (JobState.FAILED, FaultKind.UNAVAILABLE, 1),
        (JobState.EXPIRED, None, 1),
        (JobState.CANCELLED, None, 0),
        (JobState.FAILED, FaultKind.CONTENT_REFUSED, 0),
        (JobState.FAILED, FaultKind.INVALID_ORDER, 0),
        (JobState.FAILED, FaultKind.IMAGE_WITHHELD, 0),
        (JobState.FAILED, FaultKind.IMAGE_UNMODERATED, 1),
    ],
)
def test_failed_jobs_and_their_time_are_counted_by_what_was_ordered(
    state: JobState, fault: FaultKind | None, failed: int
) -> None:
    metrics = make_metrics()
    metrics(replace(JOB_ENDED, state=state, fault=fault, seconds=60.0))
    ordered = '{model="m",quality="high",resolution="1k"}'
    text = metrics.render()[0].decode()
    assert (f"igw_failed_jobs_total{ordered} 1.0" in text) == bool(failed)
    assert (f"igw_failed_job_seconds_total{ordered} 60.0" in text) == bool(failed)
    assert read_values(metrics)["igw_job_duration_seconds"] == (state is JobState.COMPLETED)


def test_names_are_unique() -> None:
    assert len({row.name for row in METRIC_TABLE}) == len(METRIC_TABLE)


def test_each_counter_and_histogram_is_fed_by_an_event() -> None:
    metrics = make_metrics()
    before = read_values(metrics)
    for event in SAMPLE_EVENTS:
        metrics(event)
    metrics.observe_loop_lag(0.01)
    metrics.count_dropped_spans(QUEUE_FULL, 1)
    after = read_values(metrics)
    counted = [row.name for row in OWN_METRICS if row.kind is not MetricKind.GAUGE and not row.is_from_store]
    assert [name for name in counted if not after[name] > before[name]] == []


def test_each_series_has_the_labels_of_its_row() -> None:
    metrics = make_metrics()
    for event in SAMPLE_EVENTS:
        metrics(event)
    labels = {row.name.removesuffix("_total"): set(row.labels) for row in OWN_METRICS}
    families = text_string_to_metric_families(metrics.render()[0].decode())
    series = [(family.name, set(sample.labels) - {"le"}) for family in families for sample in family.samples]
    assert [(name, found) for name, found in series if found != labels.get(name, set())] == []


def test_histogram_counts_a_value_in_the_buckets_that_reach_it() -> None:
    metrics = make_metrics()
    for seconds in (0.0, 0.001, 0.0015, 2.0, 2.5):
        metrics(StoreCommitted(outcome=CommitResult.APPLIED, seconds=seconds))
    [family] = [
        family
        for family in text_string_to_metric_families(metrics.render()[0].decode())
        if family.name == STORE_COMMIT_DURATION.name
    ]
    counts = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert counts == {
        **{"0.0005": 1, "0.001": 2, "0.0025": 3, "0.005": 3, "0.01": 3, "0.025": 3, "0.05": 3, "0.1": 3},
        **{"0.25": 3, "0.5": 3, "2.0": 4},
        "+Inf": 5,
    }
    assert [sample.value for sample in family.samples[-2:]] == [5, pytest.approx(4.5025)]


def test_each_other_metric_is_read_by_one_reader() -> None:
    read_in_memory = set(GaugeReader(MagicMock()).readers)
    read_in_store = set(StoreMetricReader(*(MagicMock() for _ in range(5))).readers)
    assert not read_in_memory & read_in_store
    gauges = {row for row in OWN_METRICS if row.kind is MetricKind.GAUGE or row.is_from_store}
    assert read_in_memory | read_in_store == gauges


def test_only_the_table_has_metrics() -> None:
    families = list(text_string_to_metric_families(make_metrics().render()[0].decode()))
    assert [family.name for family in families] == [row.name.removesuffix("_total") for row in METRIC_TABLE]


def test_each_event_class_has_a_sample() -> None:
    classes = {
        kind
        for module in (events, account_events, webhook_events, budget_events, canary_events, moderation_events)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Event) and not kind.__subclasses__()
    }
    assert {type(event) for event in SAMPLE_EVENTS} == classes


def test_initial_series_are_zero_until_the_first_event() -> None:
    text = make_metrics().render()[0].decode()
    assert 'igw_config_reloads_total{outcome="rejected"} 0.0' in text
    assert 'igw_callbacks_total{adapter="runapi",outcome="forged"} 0.0' in text
    assert "igw_jobs_reclaimed_total 0.0" in text


def test_each_component_that_reports_errors_has_a_series_from_the_start() -> None:
    """Otherwise Prometheus would not see the first error as an increase."""
    source = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    reported = set(re.findall(r'component(?:: str)? ?= ?"(\w+)"|_report\("(\w+)"', source))
    assert {name for names in reported for name in names if name} | {"task"} == set(COMPONENTS)


def test_paths_to_the_same_route_count_as_one() -> None:
    paths = {re.sub(r":\w+\}", "}", path) for handler in ROUTE_HANDLERS for path in handler.paths}
    routes = {get_canonical_route(path) for path in paths}
    assert routes < paths, "each is a path that exists"
    assert not [route for route in routes if route.startswith("/openai/")]
    assert get_canonical_route("/images/edits") == "/v1/images/edits"
    assert get_canonical_route("/openai/deployments/{deployment}/images/edits") == "/v1/images/edits"
    assert get_canonical_route("/files/{key}") == "/files/{key}"
