"""The response for a failed job follows from all of its attempts and the table of verdicts: for every fault, final
state and earlier attempt."""

from itertools import product
from pathlib import Path

import pytest

from gateway.api.charge_sentences import SENTENCES_OF_FAILED_JOBS
from gateway.api.failed_job_responses import build_failure_response
from gateway.jobs.commit import IdempotencyRecord
from gateway.jobs.failed_job_retry_safety import classify_failure, is_safe_to_retry
from gateway.jobs.job import Job, JobState
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    AttemptStarted,
    CancelRequested,
    JobAbandoned,
    JobExpired,
    OrderFailed,
    PartAbandoned,
)
from providers.faults import CONTENT_FAULTS, VERDICTS, ChargeStatus, FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, JobScenario, make_new_job, make_route_entry

ERRORS_PAGE = Path(__file__).parents[3] / "docs" / "errors.md"
BODY_KEY_RECORD = IdempotencyRecord(key="body", fingerprint="body", is_body_key=True)
# A fault that is missing here has no expected response yet: add it.
EXPECTED_RESPONSES: dict[FaultKind, tuple[int, str]] = {
    FaultKind.NOT_SENT: (503, "sellers_unavailable"),
    FaultKind.GATEWAY_BUSY: (503, "sellers_unavailable"),
    FaultKind.INVALID_ORDER: (424, "order_refused"),
    FaultKind.NOT_FOUND: (424, "sellers_failed"),
    FaultKind.INVALID_KEY: (503, "sellers_unavailable"),
    FaultKind.NO_CREDIT: (503, "sellers_unavailable"),
    FaultKind.FORBIDDEN: (503, "sellers_unavailable"),
    FaultKind.RATE_LIMITED: (503, "sellers_unavailable"),
    FaultKind.UNAVAILABLE: (503, "sellers_unavailable"),
    FaultKind.INPUT_MISSING: (503, "input_missing"),
    FaultKind.CONTENT_REFUSED: (400, "moderation_blocked"),
    FaultKind.ORDER_FAILED: (424, "sellers_failed"),
    FaultKind.RESPONSE_LOST: (424, "outcome_unknown"),
    FaultKind.SERVER_ERROR: (424, "outcome_unknown"),
    FaultKind.OVERLOADED: (424, "outcome_unknown"),
    FaultKind.IDEMPOTENCY_CONFLICT: (424, "outcome_unknown"),
    FaultKind.UNREADABLE: (424, "outcome_unknown"),
    FaultKind.UNKNOWN_STATUS: (424, "outcome_unknown"),
    FaultKind.ORDER_CANCELLED: (424, "outcome_unknown"),
    FaultKind.ORDER_TIMED_OUT: (424, "outcome_unknown"),
    FaultKind.NO_IMAGES: (424, "paid_not_delivered"),
    FaultKind.IMAGES_EXPIRED: (424, "paid_not_delivered"),
    FaultKind.IMAGE_WITHHELD: (400, "moderation_blocked"),
    FaultKind.IMAGE_UNMODERATED: (424, "moderation_unavailable"),
}
# Faults of an earlier attempt after which the images are ordered again.
EARLIER_FAULTS = (None, FaultKind.ORDER_FAILED, FaultKind.RESPONSE_LOST, FaultKind.NO_IMAGES)
CHARGE_CERTAINTY = (ChargeStatus.NOT_CHARGED, ChargeStatus.UNKNOWN, ChargeStatus.CHARGED)


def end_attempt(scenario: JobScenario, kind: FaultKind) -> None:
    """Ends the last attempt with this fault, by the update that reports such a fault."""
    number = len(scenario.job.attempts)
    if VERDICTS[kind].charge_status is ChargeStatus.NOT_CHARGED:
        scenario.apply(OrderFailed(attempt=number, fault=kind))
    else:
        scenario.apply(AttemptAbandoned(fence=FENCE, attempt=number, fault=kind))


def make_ended_job(kind: FaultKind, state: JobState, earlier: FaultKind | None) -> Job:
    """Makes a job for one image whose first attempt ended with `earlier`, if given, and whose last one ended with
    `kind`."""
    kinds = [fault for fault in (earlier, kind) if fault]
    # A job expires only if one seller is left that was not tried.
    entry_count = len(kinds) + (state is JobState.EXPIRED)
    route = tuple(make_route_entry(f"seller-{number}") for number in range(entry_count))
    scenario = JobScenario(
        make_new_job(route=route, max_attempts=entry_count, reorder_on_unknown=True, idempotency=BODY_KEY_RECORD)
    )
    for number, fault in enumerate(kinds):
        scenario.start_attempt(number)
        if state is JobState.CANCELLED and number == len(kinds) - 1:
            scenario.apply(CancelRequested())
        end_attempt(scenario, fault)
    if state is JobState.EXPIRED and not scenario.job.state.is_terminal:
        scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert scenario.job.state.is_terminal
    ending = next(commit for commit in reversed(scenario.commits) if commit.idempotency_ttl is not None)
    assert ending.is_refused == is_safe_to_retry(scenario.job), "the store remembers it accordingly"
    return scenario.job


def most_certain_charge(*kinds: FaultKind | None) -> ChargeStatus:
    return max((VERDICTS[kind].charge_status for kind in kinds if kind), key=CHARGE_CERTAINTY.index)


CASES = list(product(FaultKind, (JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED), EARLIER_FAULTS))


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_has_its_response(kind: FaultKind) -> None:
    response = build_failure_response(make_ended_job(kind, JobState.FAILED, None))
    assert (response.status, response.code) == EXPECTED_RESPONSES[kind]
    assert SENTENCES_OF_FAILED_JOBS[VERDICTS[kind].charge_status] in response.message


@pytest.mark.parametrize(("kind", "state", "earlier"), CASES)
def test_response_states_charge_status_of_all_attempts(
    kind: FaultKind, state: JobState, earlier: FaultKind | None
) -> None:
    job = make_ended_job(kind, state, earlier)
    response, failure = build_failure_response(job), classify_failure(job)
    assert failure.charge_status is most_certain_charge(kind, earlier)
    assert SENTENCES_OF_FAILED_JOBS[failure.charge_status] in response.message
    assert (
        response.code not in ("outcome_unknown", "paid_not_delivered")
        or failure.charge_status is not ChargeStatus.NOT_CHARGED
    )
    if failure.charge_status is not ChargeStatus.NOT_CHARGED:
        assert response.status in (400, 424)
        assert "is a new purchase" in response.message


@pytest.mark.parametrize(("kind", "state", "earlier"), CASES)
def test_only_uncharged_temporary_failures_suggest_retry(
    kind: FaultKind, state: JobState, earlier: FaultKind | None
) -> None:
    job = make_ended_job(kind, state, earlier)
    response = build_failure_response(job)
    is_retryable = (
        most_certain_charge(kind, earlier) is ChargeStatus.NOT_CHARGED
        and VERDICTS[kind].is_transient
        and state is not JobState.CANCELLED
    )
    assert is_safe_to_retry(job) is is_retryable
    assert (response.retry_after is not None) is is_retryable
    assert (response.status == 503) is is_retryable
    assert response.status in (400, 424, 503), "no client repeats a 400 or a 424 by itself"
    assert ("Retry" in response.message) is is_retryable


@pytest.mark.parametrize(("kind", "state", "earlier"), CASES)
def test_content_refusal_is_answered_as_such_after_any_charge(
    kind: FaultKind, state: JobState, earlier: FaultKind | None
) -> None:
    response = build_failure_response(make_ended_job(kind, state, earlier))
    is_refusal = kind in CONTENT_FAULTS and state is not JobState.CANCELLED
    assert (response.status == 400) is (response.code == "moderation_blocked") is is_refusal


def expire_job(scenario: JobScenario) -> Job:
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert scenario.job.state is JobState.EXPIRED
    return scenario.job


def test_expired_unordered_job_suggests_retry() -> None:
    response = build_failure_response(expire_job(JobScenario()))
    assert (response.status, response.code) == (503, "deadline_exceeded")
    assert response.retry_after
    assert SENTENCES_OF_FAILED_JOBS[ChargeStatus.NOT_CHARGED] in response.message


def test_order_open_at_deadline_may_have_been_charged() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    response = build_failure_response(expire_job(scenario))
    assert (response.status, response.code, response.retry_after) == (424, "outcome_unknown", None)
    assert "deadline" in response.message
    assert SENTENCES_OF_FAILED_JOBS[ChargeStatus.UNKNOWN] in response.message


def test_late_outcome_of_expired_order_changes_response() -> None:
    delivered, failed = JobScenario(), JobScenario()
    for scenario in (delivered, failed):
        scenario.receive_ticket()
        expire_job(scenario)
    delivered.report_images_ready(DEADLINE_SECONDS + 1)
    assert build_failure_response(delivered.job).code == "paid_not_delivered"
    failed.fail_order(FaultKind.ORDER_FAILED, DEADLINE_SECONDS + 1)
    assert (build_failure_response(failed.job).status, classify_failure(failed.job).charge_status) == (
        503,
        ChargeStatus.NOT_CHARGED,
    )


def test_images_ready_after_abandonment_were_charged() -> None:
    scenario = JobScenario()
    scenario.lose_response()
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.RESPONSE_LOST))
    assert build_failure_response(scenario.job).code == "outcome_unknown"
    scenario.report_images_ready()
    assert build_failure_response(scenario.job).code == "paid_not_delivered"


def test_failure_with_reported_cost_was_charged() -> None:
    scenario = JobScenario(make_new_job(route=(make_route_entry(),)))
    scenario.start_attempt()
    scenario.fail_order(FaultKind.ORDER_FAILED, cost=60_000)
    response = build_failure_response(scenario.job)
    assert response.code == "paid_not_delivered"
    assert response.message == (
        "The order failed at the seller. The same request again is a new purchase. "
        "The seller was paid; you were not charged."
    )


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.INPUT_MISSING])
def test_errors_page_lists_message_of_fault_with_reported_cost(kind: FaultKind) -> None:
    scenario = JobScenario(make_new_job(route=(make_route_entry(),)))
    scenario.start_attempt()
    scenario.fail_order(kind, cost=60_000)
    assert build_failure_response(scenario.job).message in ERRORS_PAGE.read_text()


def test_failed_input_upload_is_not_an_order() -> None:
    """The same fault makes an order suspected, but no order was sent here."""
    scenario = JobScenario(make_new_job(route=(make_route_entry(),)))
    scenario.apply(PartAbandoned(fence=FENCE, images=(0,), fault=FaultKind.SERVER_ERROR))
    response = build_failure_response(scenario.job)
    assert (response.status, response.code) == (503, "sellers_unavailable")
    assert SENTENCES_OF_FAILED_JOBS[ChargeStatus.NOT_CHARGED] in response.message


def test_unservable_image_outweighs_temporary_failures() -> None:
    scenario = JobScenario(make_new_job(n=2, route=(make_route_entry(max_images=1),)))
    for image, kind in ((0, FaultKind.RATE_LIMITED), (1, FaultKind.INVALID_ORDER)):
        scenario.apply(AttemptStarted(fence=FENCE, route_index=0, images=(image,)))
        scenario.fail_order(kind)
        scenario.apply(PartAbandoned(fence=FENCE, images=(image,)))
    response = build_failure_response(scenario.job)
    assert (response.status, response.code) == (424, "order_refused")


def test_job_abandoned_after_worker_crashes_suggests_no_retry() -> None:
    scenario = JobScenario()
    scenario.apply(JobAbandoned(fence=FENCE))
    assert (build_failure_response(scenario.job).status, is_safe_to_retry(scenario.job)) == (424, False)
