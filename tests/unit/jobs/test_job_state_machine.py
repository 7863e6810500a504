"""A random job under all updates in any order: plausible, late, repeated, outdated and nonsensical."""

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.jobs.commit import build_update_commit
from gateway.jobs.first_commit import NewJob
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import JobUpdate
from gateway.jobs.next_actions import MAX_RECLAIMS_WITHOUT_PROGRESS, SubmitOrder, derive_actions, next_due
from gateway.jobs.transitions import Ignored
from tests.unit.jobs.job_scenario import START, JobScenario
from tests.unit.jobs.job_strategies import (
    ENDING_UPDATES,
    NEW_JOBS,
    RANDOMS,
    UPDATES,
    draw_seller_update,
    perform_action,
)

PAUSES = st.sampled_from([0.0, 0.5, 1.0, 5.0, 20.0, -1.0])
MIN_UPDATES_OF_OLD_JOB = 20


# Sixty jobs make about 1,500 steps, and 880 at the least so far. With the state machines of the three stores (5,000
# steps each), `make test-all` makes more than 20,000.
MIN_STEPS_BY_JOB_COUNT = {60: 500, 450: 5_500}
COUNTED_STEPS: list[int] = []


class JobStateMachine(RuleBasedStateMachine):
    """Chooses the updates; `JobScenario.apply` checks every commit against the invariants."""

    scenario: JobScenario

    @initialize(new_job=NEW_JOBS)
    def create_job(self, new_job: NewJob) -> None:
        self.scenario = JobScenario(new_job)
        self.seconds = 0.0
        self.past_jobs: list[Job] = [self.scenario.job]
        self.past_updates: list[JobUpdate] = []

    def apply_update(self, update: JobUpdate) -> None:
        COUNTED_STEPS.append(1)
        self.past_updates.append(update)
        previous_job = self.scenario.job
        if isinstance(build_update_commit(previous_job, update, START + self.seconds), Ignored):
            assert self.scenario.expect_ignored(update, self.seconds)
            return
        self.scenario.apply(update, self.seconds)
        assert self.scenario.job != previous_job
        self.past_jobs.append(self.scenario.job)

    @rule(pause=PAUSES)
    def pass_little_time(self, pause: float) -> None:
        """Sometimes backwards, since clocks of processes differ."""
        self.seconds = max(0.0, self.seconds + pause)

    @precondition(lambda self: len(self.past_updates) > MIN_UPDATES_OF_OLD_JOB)
    @rule(pause=st.sampled_from([130.0, 500.0, 1_000.0, 90_000.0]))
    def pass_much_time(self, pause: float) -> None:
        self.seconds += pause

    @rule(update=UPDATES)
    def apply_any_update(self, update: JobUpdate) -> None:
        self.apply_update(update)

    @precondition(lambda self: len(self.past_updates) > MIN_UPDATES_OF_OLD_JOB)
    @rule(update=ENDING_UPDATES)
    def apply_ending_update(self, update: JobUpdate) -> None:
        self.apply_update(update)

    @precondition(lambda self: self.past_updates)
    @rule(steps_back=st.integers(0, 5))
    def repeat_past_update(self, steps_back: int) -> None:
        self.apply_update(self.past_updates[max(0, len(self.past_updates) - 1 - steps_back)])

    @rule(rng=RANDOMS)
    def perform_derived_action(self, rng: Random) -> None:
        self.perform_some_action(self.scenario.job, rng)

    @rule(rng=RANDOMS, steps_back=st.integers(1, 8))
    def perform_outdated_action(self, rng: Random, steps_back: int) -> None:
        self.perform_some_action(self.past_jobs[max(0, len(self.past_jobs) - 1 - steps_back)], rng)

    @precondition(lambda self: self.scenario.job.attempts)
    @rule(rng=RANDOMS)
    def receive_seller_update(self, rng: Random) -> None:
        """For a running order, or one that ended long ago."""
        self.apply_update(draw_seller_update(self.scenario.job, rng.randint(1, len(self.scenario.job.attempts)), rng))

    @rule(rng=RANDOMS)
    def submit_orders(self, rng: Random) -> None:
        for action in derive_actions(self.scenario.job, START + self.seconds, is_created_here=True):
            if isinstance(action, SubmitOrder) and (update := perform_action(self.scenario.job, action, rng)):
                self.apply_update(update)

    def perform_some_action(self, job: Job, rng: Random) -> None:
        actions = derive_actions(job, START + self.seconds)
        if actions and (update := perform_action(job, rng.choice(actions), rng)):
            self.apply_update(update)

    @invariant()
    def actions_and_due_time_agree(self) -> None:
        """At the current time, not only at the time of the last commit."""
        if not hasattr(self, "scenario"):
            return
        job, now = self.scenario.job, START + self.seconds
        assert job.is_settled == (not derive_actions(job, now))
        assert next_due(job, now) >= now
        assert job.is_settled or derive_actions(job, now, MAX_RECLAIMS_WITHOUT_PROGRESS)


@pytest.mark.parametrize("job_count", [60, pytest.param(450, marks=pytest.mark.thorough)])
def test_arbitrary_updates_keep_invariants(job_count: int) -> None:
    machine_settings = settings(max_examples=job_count, stateful_step_count=50, suppress_health_check=list(HealthCheck))
    COUNTED_STEPS.clear()
    run_state_machine_as_test(JobStateMachine, settings=machine_settings)
    assert len(COUNTED_STEPS) >= MIN_STEPS_BY_JOB_COUNT[job_count]
