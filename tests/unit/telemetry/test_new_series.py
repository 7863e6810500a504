"""A new series is 0 for a minute, so that Prometheus sees its first value as an increase."""

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.events import CommitResult, ErrorReported, StoreCommitted
from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import StoreUnavailable
from gateway.telemetry import metric_table
from gateway.telemetry import store_metric_table as table
from gateway.telemetry.metric_row import MetricRow
from gateway.telemetry.metrics import OPENMETRICS_TYPE, Metrics
from providers.faults import FaultKind
from tests.harness.manual_clock import ManualClock
from tests.unit.telemetry.sample_events import JOB_ENDED
from tests.unit.telemetry.store_reader_harness import CELLS, TIMING, ReaderHarness, make_total

ZERO_SECONDS = 60.0
COMPLETED = replace(JOB_ENDED, state=JobState.COMPLETED, fault=None)
FAILED = replace(JOB_ENDED, state=JobState.FAILED, fault=FaultKind.RESPONSE_LOST)
DESIGN, MARKETING = ("design", "s", "m", "capture"), ("marketing", "s", "m", "capture")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics(clock: ManualClock) -> Metrics:
    return Metrics(str, clock, ZERO_SECONDS)


@pytest.fixture
def harness() -> ReaderHarness:
    return ReaderHarness()


def list_samples(metrics: Metrics, row: MetricRow) -> list[Sample]:
    families = text_string_to_metric_families(metrics.render(OPENMETRICS_TYPE)[0].decode())
    return [
        sample for family in families if family.name == row.name.removesuffix("_total") for sample in family.samples
    ]


def read_jobs_by_outcome(metrics: Metrics) -> dict[str, float]:
    return {sample.labels["outcome"]: sample.value for sample in list_samples(metrics, metric_table.JOBS_ENDED)}


def test_time_is_at_least_two_scrapes_long() -> None:
    assert TIMING.new_series_zero_seconds == ZERO_SECONDS == 2 * 30.0


def test_first_events_are_counted_as_an_increase(metrics: Metrics, clock: ManualClock) -> None:
    metrics(COMPLETED)
    clock.now += ZERO_SECONDS
    metrics(FAILED)
    metrics(COMPLETED)
    assert read_jobs_by_outcome(metrics) == {"completed": 2.0, "failed": 0.0}
    clock.now += ZERO_SECONDS - 1.0
    metrics(FAILED)
    assert read_jobs_by_outcome(metrics) == {"completed": 2.0, "failed": 0.0}
    clock.now += 1.0
    assert read_jobs_by_outcome(metrics) == {"completed": 2.0, "failed": 2.0}


def test_histogram_begins_with_zero_in_all_buckets_and_without_exemplars(metrics: Metrics, clock: ManualClock) -> None:
    metrics(replace(COMPLETED, seconds=30.0))
    new = list_samples(metrics, metric_table.JOB_DURATION)
    assert new
    assert not any(sample.value or sample.exemplar for sample in new)
    clock.now += ZERO_SECONDS
    samples = list_samples(metrics, metric_table.JOB_DURATION)
    values = {sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in samples}
    assert (values["24.0"], values["36.0"], values["count"], values["sum"]) == (0.0, 1.0, 1.0, 30.0)
    assert len([sample for sample in samples if sample.exemplar]) == 1


def test_series_that_exist_from_the_start_show_events_at_once(metrics: Metrics) -> None:
    metrics(ErrorReported(component="engine", message="broken"))
    metrics(StoreCommitted(outcome=CommitResult.UNAVAILABLE, seconds=5.0))
    errors = {
        sample.labels["component"]: sample.value for sample in list_samples(metrics, metric_table.INTERNAL_ERRORS)
    }
    assert errors["engine"] == 1.0
    commits = {sample.labels["outcome"]: sample.value for sample in list_samples(metrics, metric_table.STORE_COMMITS)}
    assert commits == dict.fromkeys(CommitResult, 0.0) | {"unavailable": 1.0}


# --- money, which is read from the store


def test_first_money_of_a_series_is_an_increase(harness: ReaderHarness) -> None:
    harness.refresh()
    for charged in (1_000_000, 2_000_000):
        harness.statistics.totals = (make_total("design", charged=charged, charged_images=1),)
        harness.refresh()
        assert harness.read_samples(table.SPEND) == {DESIGN: 0.0}
        assert harness.read_samples(table.IMAGES_DELIVERED) == {DESIGN[:3]: 0.0}
        assert set(harness.read_samples(table.CELL_SPEND).values()) == {0.0}
        harness.clock.now += ZERO_SECONDS / 2
    assert harness.read_samples(table.SPEND) == {DESIGN: 2.0}
    assert harness.read_samples(table.IMAGES_DELIVERED) == {DESIGN[:3]: 1.0}
    assert set(harness.read_samples(table.CELL_SPEND).values()) == {2.0}


def test_only_the_new_series_is_zero(harness: ReaderHarness) -> None:
    harness.statistics.totals = (make_total("design", charged=1_000_000),)
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {DESIGN: 1.0}, "it existed before the process"
    harness.statistics.totals = (
        make_total("design", charged=3_000_000, corrected=500_000),
        make_total("design", charged=4_000_000, cell=CELLS[1]),
        make_total("design", charged=5_000_000, line=LedgerLine.ORPHAN),
    )
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {DESIGN: 7.0, (*DESIGN[:3], "orphan"): 0.0}
    assert harness.read_samples(table.SPEND_CORRECTIONS) == {DESIGN: 0.0}
    assert sorted(harness.read_samples(table.CELL_SPEND).values()) == [0.0, 0.0, 3.0]


def test_restart_does_not_reset_a_series(harness: ReaderHarness) -> None:
    """A process that starts while a series is new shows its value at once: `max` over all replicas counts."""
    harness.refresh()
    harness.statistics.totals = (make_total("design", charged=1_000_000),)
    harness.refresh()
    restarted = ReaderHarness(harness.statistics)
    restarted.refresh()
    assert harness.read_samples(table.SPEND) == {DESIGN: 0.0}
    assert restarted.read_samples(table.SPEND) == {DESIGN: 1.0}


def test_money_that_was_booked_while_the_store_was_unavailable_is_an_increase(harness: ReaderHarness) -> None:
    harness.refresh()
    harness.statistics.error = StoreUnavailable("Redis is gone.")
    with pytest.raises(StoreUnavailable):
        harness.refresh()
    harness.clock.now += 10 * ZERO_SECONDS
    harness.statistics.error = None
    harness.statistics.totals = (make_total("design", charged=1_000_000),)
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {DESIGN: 0.0}
    harness.clock.now += TIMING.store_metric_max_age_seconds + 1.0
    assert harness.read_samples(table.SPEND) == {}, "absent while the reading is old"
    harness.clock.now += ZERO_SECONDS
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {DESIGN: 1.0}
