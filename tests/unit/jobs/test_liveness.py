"""A worker that follows `derive_actions` settles every job, whatever the sellers do."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.jobs.commit import Commit, build_update_commit
from gateway.jobs.first_commit import NewJob
from gateway.jobs.job_update_types import CancelRequested, Decision, JobConfirmed, JobUpdate, ResponseLost
from gateway.jobs.next_actions import (
    MAX_RECLAIMS_WITHOUT_PROGRESS,
    derive_actions,
    next_due,
)
from tests.unit.jobs.job_scenario import START, JobScenario
from tests.unit.jobs.job_strategies import NEW_JOBS, RANDOMS, is_waiting, perform_action

PAUSES = (0.0, 1.0, 30.0, 600.0, 7_200.0)
# Each round changes the job, which is possible only a limited number of times, or lets time pass.
MAX_ROUNDS = 600


def run_until_settled(scenario: JobScenario, rng: Random, is_responsive: bool, reclaims: int = 0) -> float:
    """Returns the seconds until the job is settled. Every wait must have an end."""
    seconds = 0.0
    for _ in range(MAX_ROUNDS):
        job, now = scenario.job, START + seconds
        if job.is_settled:
            return seconds
        actions = derive_actions(job, now, reclaims)
        action = next((attempt for attempt in actions if not is_waiting(attempt)), None) or rng.choice(actions)
        update = perform_action(job, action, rng, is_responsive)
        if isinstance(update, Decision | ResponseLost) and not is_waiting(action):
            scenario.apply(update, seconds)
        elif update is not None:
            apply_unless_ignored(scenario, update, seconds)
        if is_waiting(action):
            seconds = max(seconds, next_due(scenario.job, now) - START) + rng.choice(PAUSES)
    raise AssertionError(f"not settled after {MAX_ROUNDS} rounds: {scenario.job}")


def apply_unless_ignored(scenario: JobScenario, update: JobUpdate, seconds: float) -> None:
    if isinstance(build_update_commit(scenario.job, update, START + seconds), Commit):
        scenario.apply(update, seconds)


def start_scenario(new_job: NewJob, rng: Random, steps: int, last_update: JobUpdate) -> JobScenario:
    """Returns the job after some steps of its worker and this update."""
    scenario = JobScenario(new_job)
    for _ in range(steps):
        for action in derive_actions(scenario.job, START)[:1]:
            if update := perform_action(scenario.job, action, rng):
                apply_unless_ignored(scenario, update, 0.0)
    apply_unless_ignored(scenario, last_update, 0.0)
    return scenario


def compute_max_seconds(new_job: NewJob) -> float:
    """Returns the longest time: an order just before the deadline, whose images are awaited until they expire."""
    slowest = max(new_job.timing.image_ttl_seconds, *(entry.timeout_seconds for entry in new_job.route))
    return new_job.deadline_seconds + slowest + new_job.timing.reconcile_timeout_seconds + 2 * max(PAUSES)


def make_settings(examples: int) -> settings:
    return settings(max_examples=examples, suppress_health_check=list(HealthCheck))


@pytest.mark.thorough
@make_settings(600)
@given(new_job=NEW_JOBS, rng=RANDOMS, is_responsive=st.booleans())
def test_every_job_settles_in_time(new_job: NewJob, rng: Random, is_responsive: bool) -> None:
    scenario = JobScenario(new_job)
    assert run_until_settled(scenario, rng, is_responsive) <= compute_max_seconds(new_job)


@make_settings(50)
@given(new_job=NEW_JOBS, rng=RANDOMS, steps=st.integers(0, 12))
def test_cancelled_job_settles_in_time(new_job: NewJob, rng: Random, steps: int) -> None:
    scenario = start_scenario(new_job, rng, steps, CancelRequested())
    assert run_until_settled(scenario, rng, is_responsive=True) <= compute_max_seconds(new_job)
    assert scenario.job.is_cancel_requested or scenario.job.finished_at == START


@make_settings(50)
@given(new_job=NEW_JOBS, rng=RANDOMS, steps=st.integers(0, 12))
def test_job_whose_workers_crash_starts_no_order_and_settles_in_time(new_job: NewJob, rng: Random, steps: int) -> None:
    scenario = start_scenario(new_job, rng, steps, JobConfirmed())
    ordered = len(scenario.job.attempts)
    assert run_until_settled(
        scenario, rng, is_responsive=False, reclaims=MAX_RECLAIMS_WITHOUT_PROGRESS
    ) <= compute_max_seconds(new_job)
    assert len(scenario.job.attempts) == ordered
