"""A job whose client may have received an error is ordered only after a client confirms it."""

import pytest

from gateway.jobs.commit import BODY_KEY_TTL_SECONDS, IdempotencyRecord
from gateway.jobs.failed_job_retry_safety import is_safe_to_retry, may_have_been_charged
from gateway.jobs.job import JobState
from gateway.jobs.job_update_types import (
    AttemptStarted,
    CancelRequested,
    JobConfirmed,
    JobExpired,
    JobWithdrawn,
    PartAbandoned,
)
from gateway.jobs.next_actions import (
    MAX_RECLAIMS_WITHOUT_PROGRESS,
    AwaitClient,
    ExpireJob,
    SubmitOrder,
    WithdrawJob,
    derive_actions,
    next_due,
)
from gateway.timeouts_and_intervals import JobTiming
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, START, JobScenario, make_new_job

CONFIRMATION_TIMEOUT_SECONDS = JobTiming().confirmation_timeout_seconds
WITHDRAWAL = JobWithdrawn(fence=FENCE)


@pytest.mark.parametrize("reclaims", [0, 1, MAX_RECLAIMS_WITHOUT_PROGRESS])
def test_other_workers_await_client_then_withdraw_job(reclaims: int) -> None:
    job = JobScenario().job
    withdraw_at = START + CONFIRMATION_TIMEOUT_SECONDS
    assert (
        derive_actions(job, START, reclaims)
        == derive_actions(job, withdraw_at - 0.1, reclaims)
        == (AwaitClient(until=withdraw_at),)
    )
    assert derive_actions(job, withdraw_at, reclaims) == (WithdrawJob(),)
    assert next_due(job, START) == withdraw_at


def test_creating_worker_submits_order_at_once() -> None:
    for seconds in (0.0, CONFIRMATION_TIMEOUT_SECONDS + 1):
        assert isinstance(derive_actions(JobScenario().job, START + seconds, is_created_here=True)[0], SubmitOrder)


@pytest.mark.parametrize("seconds", [0.0, CONFIRMATION_TIMEOUT_SECONDS + 1])
def test_any_worker_submits_confirmed_job(seconds: float) -> None:
    scenario = JobScenario()
    scenario.apply(JobConfirmed(), seconds)
    assert isinstance(derive_actions(scenario.job, START + seconds)[0], SubmitOrder)
    assert scenario.expect_ignored(JobConfirmed(), seconds)
    assert scenario.expect_ignored(WITHDRAWAL, DEADLINE_SECONDS)
    assert derive_actions(scenario.job, START + DEADLINE_SECONDS) == (ExpireJob(),)


def test_attempt_confirms_job() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    assert scenario.job.is_confirmed
    assert scenario.expect_ignored(JobConfirmed())
    assert scenario.expect_ignored(WITHDRAWAL, CONFIRMATION_TIMEOUT_SECONDS)


def test_job_is_not_withdrawn_before_timeout() -> None:
    scenario = JobScenario()
    assert scenario.expect_ignored(WITHDRAWAL, CONFIRMATION_TIMEOUT_SECONDS - 0.1)


def test_earlier_deadline_ends_wait_for_client() -> None:
    scenario = JobScenario(make_new_job(deadline_seconds=10.0))
    assert derive_actions(scenario.job, START + 10.0) == (WithdrawJob(),)
    scenario.apply(WITHDRAWAL, 10.0)
    assert scenario.job.state is JobState.CANCELLED


@pytest.mark.parametrize("is_body_key", [True, False])
def test_withdrawn_job_releases_budget_and_key(is_body_key: bool) -> None:
    scenario = JobScenario(
        make_new_job(n=2, idempotency=IdempotencyRecord(key="k", fingerprint="f", is_body_key=is_body_key))
    )
    commit = scenario.apply(WITHDRAWAL, CONFIRMATION_TIMEOUT_SECONDS)
    assert (scenario.job.state, scenario.job.is_settled, scenario.job.hold) == (JobState.CANCELLED, True, 0)
    assert (commit.idempotency_ttl, commit.is_refused) == (BODY_KEY_TTL_SECONDS if is_body_key else 0.0, True)
    assert is_safe_to_retry(scenario.job)
    assert not may_have_been_charged(scenario.job)
    assert scenario.expect_ignored(JobConfirmed(), CONFIRMATION_TIMEOUT_SECONDS)
    assert scenario.expect_ignored(
        AttemptStarted(fence=FENCE, route_index=0, images=(0,)), CONFIRMATION_TIMEOUT_SECONDS
    )


def test_client_key_is_kept_after_any_other_end() -> None:
    record = IdempotencyRecord(key="k", fingerprint="f")
    for ending in (CancelRequested(), PartAbandoned(fence=FENCE, images=(0,)), JobExpired(fence=FENCE)):
        scenario = JobScenario(make_new_job(idempotency=record))
        assert (
            scenario.apply(ending, DEADLINE_SECONDS if isinstance(ending, JobExpired) else 1.0).idempotency_ttl is None
        )
