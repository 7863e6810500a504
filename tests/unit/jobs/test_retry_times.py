"""A seller that rejected an order and said when to retry is retried once if no other seller is left."""

import pytest

from gateway.api.failed_job_responses import build_failure_response
from gateway.api.json_responses import build_job_headers
from gateway.jobs.commit import decode_job
from gateway.jobs.job import JobState, PartState
from gateway.jobs.job_update_types import AttemptStarted, PartAbandoned
from gateway.jobs.next_actions import SubmitOrder, derive_actions, next_due
from gateway.jobs.seller_retry_times import list_retries
from providers.faults import VERDICTS, ChargeStatus, FaultKind, PartConsequence
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, START, JobScenario, make_new_job, make_route_entry

SINGLE_ENTRY = (make_route_entry("runapi"),)
BUSY_FAULT = FaultKind.RATE_LIMITED


def reject_next_attempt(
    scenario: JobScenario,
    retry_after: float | None,
    fault: FaultKind = BUSY_FAULT,
    route_index: int = 0,
    seconds: float = 0.0,
) -> None:
    """Starts the next attempt, whose seller rejects the order."""
    scenario.start_attempt(route_index, seconds=seconds)
    scenario.fail_order(fault, seconds, retry_after=retry_after)


def list_submissions(scenario: JobScenario, seconds: float = 0.0) -> list[SubmitOrder]:
    return [action for action in derive_actions(scenario.job, START + seconds) if isinstance(action, SubmitOrder)]


def test_only_seller_is_retried_at_time_it_named() -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY))
    reject_next_attempt(scenario, 2.0)
    assert list_submissions(scenario) == [SubmitOrder(images=(0,), route_indexes=(), retries=((0, START + 2.0),))]
    assert next_due(scenario.job, START) == START + 2.0
    retry = AttemptStarted(fence=FENCE, route_index=0, images=(0,))
    assert "already tried" in scenario.expect_ignored(retry, 1.9)
    scenario.apply(retry, 2.0)
    scenario.store_images(seconds=3.0)
    assert scenario.get_outcome() == (JobState.COMPLETED, True)


def test_retry_time_is_saved_with_job() -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY))
    reject_next_attempt(scenario, 2.0)
    blob = scenario.commits[-1].encoded_job
    assert list_retries(decode_job(blob), scenario.job.parts[0]) == ((0, START + 2.0),)


@pytest.mark.parametrize("fault", FaultKind)
def test_only_uncharged_temporary_fault_is_retried(fault: FaultKind) -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY))
    reject_next_attempt(scenario, 2.0, fault)
    verdict = VERDICTS[fault]
    is_retryable = (
        verdict.charge_status is ChargeStatus.NOT_CHARGED
        and verdict.is_transient
        and verdict.consequence is PartConsequence.FAIL_OVER
    )
    assert bool([submission for submission in list_submissions(scenario) if submission.retries]) is is_retryable


@pytest.mark.parametrize("seconds", [None, DEADLINE_SECONDS + 1, 1e9, float("nan"), float("inf")])
def test_retry_after_beyond_deadline_is_not_retried(seconds: float | None) -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY))
    reject_next_attempt(scenario, seconds)
    assert [submission.retries for submission in list_submissions(scenario)] == [()]


def test_untried_entries_come_before_earliest_retry() -> None:
    scenario = JobScenario(make_new_job(max_attempts=4))
    reject_next_attempt(scenario, 30.0, route_index=0)
    reject_next_attempt(scenario, 10.0, route_index=1)
    (submission,) = list_submissions(scenario)
    assert submission.route_indexes == (2,)
    assert [route_index for route_index, _ in submission.retries] == [1, 0]


def test_retries_of_one_entry_count_as_attempts() -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY, max_attempts=3))
    for number in range(3):
        reject_next_attempt(scenario, 2.0, seconds=3.0 * number)
    assert scenario.get_outcome() == (JobState.FAILED, True)
    assert len(scenario.job.attempts) == 3


def test_last_answer_of_an_entry_counts() -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY))
    reject_next_attempt(scenario, 2.0)
    reject_next_attempt(scenario, None, seconds=3.0)
    assert [submission.retries for submission in list_submissions(scenario, 3.0)] == [()]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(40.0, "40"), (0.0, "1"), (2.2, "3"), (5_000.0, "120"), (None, "60")]
)
def test_client_gets_retry_after_of_seller(seconds: float | None, expected: str) -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY, max_attempts=1))
    reject_next_attempt(scenario, seconds)
    assert scenario.list_images(PartState.FAILED) == [0]
    assert build_job_headers(scenario.job)["retry-after"] == expected
    response = build_failure_response(scenario.job)
    assert (response.status, str(response.retry_after)) == (503, expected)
    unit = "second" if expected == "1" else "seconds"
    assert f"Retry in {expected} {unit}," in response.message


def test_client_gets_retry_after_of_seller_that_was_not_asked() -> None:
    scenario = JobScenario(make_new_job(route=SINGLE_ENTRY))
    scenario.apply(PartAbandoned(fence=FENCE, images=(0,), fault=BUSY_FAULT, retry_after=33.0))
    assert build_job_headers(scenario.job)["retry-after"] == "33"
