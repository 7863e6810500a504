"""The times of the gateway: names, consistent defaults, and the times that a job keeps."""

import msgspec
import pytest

from gateway.jobs.commit import decode_job
from gateway.jobs.first_commit import build_first_commit
from gateway.jobs.job import RecoveryMethod
from gateway.jobs.job_update_types import ResponseLost
from gateway.jobs.next_actions import SearchOrder, derive_actions
from gateway.timeouts_and_intervals import JobTiming, OpenDuration, Timing
from tests.harness.timings import iterate_values
from tests.unit.jobs.job_scenario import START, JobScenario, make_new_job, make_route_entry

# Fields without a unit.
COUNTS = {"attempt_timeout_factor", "max_tries", "min_retries"}


DEFAULTS = dict(iterate_values(Timing()))


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_value_names_its_unit_and_is_positive(name: str) -> None:
    field = name.rpartition(".")[2]
    assert field.endswith(("_seconds", "_bytes")) != (field in COUNTS)
    value: float | tuple[float, ...] = DEFAULTS[name]
    assert min(value if isinstance(value, tuple) else (value,)) > 0


@pytest.mark.parametrize("name", [name for name in DEFAULTS if ".min_" in name])
def test_minimum_does_not_exceed_its_maximum(name: str) -> None:
    assert DEFAULTS[name] <= DEFAULTS.get(name.replace(".min_", ".max_"), float("inf"))


@pytest.mark.parametrize("duration", [Timing().health.refused, Timing().health.outage, Timing().health.unfaithful])
def test_first_open_duration_does_not_exceed_the_longest(duration: OpenDuration) -> None:
    assert duration.initial_seconds <= duration.max_seconds


def test_timing_survives_json() -> None:
    timing = Timing(jobs=JobTiming(reconcile_timeout_seconds=7.0))
    assert msgspec.json.decode(msgspec.json.encode(timing), type=Timing) == timing


def test_job_keeps_its_times_in_the_store() -> None:
    """A replica with another configuration must not abandon or withdraw the job earlier than its creator promised."""
    timing = JobTiming(confirmation_timeout_seconds=3.0, reconcile_timeout_seconds=9.0)
    job = build_first_commit(make_new_job(timing=timing), START).job
    saved = decode_job(msgspec.json.encode(job))
    assert saved.timing == timing
    assert saved.confirmation_deadline == START + 3.0


def test_default_times_take_no_bytes_of_a_saved_job() -> None:
    assert b"timing" not in msgspec.json.encode(build_first_commit(make_new_job(timing=Timing().jobs), START).job)


def test_lost_order_is_searched_for_as_long_as_the_job_says() -> None:
    route = (make_route_entry(recovery_method=RecoveryMethod.SEARCH),)
    scenario = JobScenario(make_new_job(route=route, timing=JobTiming(reconcile_timeout_seconds=9.0)))
    scenario.apply(ResponseLost(attempt=scenario.start_attempt(0, (0,))), 5.0)
    assert derive_actions(scenario.job, START + 6.0) == (SearchOrder(attempt=1, until=START + 5.0 + 9.0),)
