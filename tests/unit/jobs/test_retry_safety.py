"""A job that was certainly not charged, because no seller could accept it, may be retried automatically."""

import pytest

from gateway.jobs.commit import BODY_KEY_TTL_SECONDS, IdempotencyRecord
from gateway.jobs.failed_job_retry_safety import is_safe_to_retry
from gateway.jobs.job import JobState
from gateway.jobs.job_update_types import CancelRequested, JobExpired, PartAbandoned
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, JobScenario, make_new_job, make_route_entry

UNACCEPTED_FAULTS = {
    *(FaultKind.NOT_SENT, FaultKind.INVALID_KEY, FaultKind.NO_CREDIT),
    *(FaultKind.FORBIDDEN, FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.GATEWAY_BUSY),
    # A deleted input image is sent again with the repeated request.
    FaultKind.INPUT_MISSING,
}
BODY_KEY_RECORD = IdempotencyRecord(key="body", fingerprint="body", is_body_key=True)
TWO_ENTRIES = (make_route_entry("runapi"), make_route_entry("openai"))


def fail_with_each_seller(*faults: FaultKind, reorder: bool = False) -> JobScenario:
    """Fails one seller after the other, until none is left."""
    scenario = JobScenario(
        make_new_job(
            route=TWO_ENTRIES[: len(faults)],
            max_attempts=len(faults),
            reorder_on_unknown=reorder,
            idempotency=BODY_KEY_RECORD,
        )
    )
    for number, kind in enumerate(faults):
        scenario.start_attempt(number)
        scenario.fail_order(kind)
    assert scenario.get_outcome() == (JobState.FAILED, True)
    return scenario


@pytest.mark.parametrize("kind", FaultKind)
def test_job_is_safe_to_retry_only_if_no_seller_accepted_it(kind: FaultKind) -> None:
    assert is_safe_to_retry(fail_with_each_seller(kind).job) is (kind in UNACCEPTED_FAULTS)


def test_earlier_uncharged_failure_keeps_job_safe_to_retry() -> None:
    assert is_safe_to_retry(fail_with_each_seller(FaultKind.ORDER_FAILED, FaultKind.NO_CREDIT).job)


def test_possibly_charged_attempt_makes_retry_unsafe() -> None:
    assert not is_safe_to_retry(fail_with_each_seller(FaultKind.RESPONSE_LOST, FaultKind.NO_CREDIT, reorder=True).job)
    assert not is_safe_to_retry(fail_with_each_seller(FaultKind.NO_IMAGES, FaultKind.NO_CREDIT).job)


def test_charged_rejection_makes_retry_unsafe() -> None:
    scenario = JobScenario(make_new_job(route=TWO_ENTRIES[:1]))
    scenario.start_attempt()
    scenario.fail_order(FaultKind.UNAVAILABLE, cost=60_000)
    scenario.apply(PartAbandoned(fence=FENCE, images=(0,), fault=FaultKind.UNAVAILABLE))
    assert scenario.job.fault is FaultKind.UNAVAILABLE
    assert not is_safe_to_retry(scenario.job)


def test_running_cancelled_or_delivered_job_is_not_safe_to_retry() -> None:
    scenario = JobScenario(make_new_job(n=2, route=TWO_ENTRIES))
    assert not is_safe_to_retry(scenario.job)
    scenario.start_attempt()
    scenario.store_images()
    scenario.apply(PartAbandoned(fence=FENCE, images=(1,), fault=FaultKind.RATE_LIMITED))
    assert scenario.job.state is JobState.COMPLETED
    assert not is_safe_to_retry(scenario.job)
    cancelled = JobScenario()
    cancelled.apply(CancelRequested())
    assert not is_safe_to_retry(cancelled.job)


def test_open_order_after_deadline_makes_retry_unsafe() -> None:
    scenario = JobScenario(make_new_job(n=2, route=TWO_ENTRIES))
    scenario.apply(PartAbandoned(fence=FENCE, images=(1,), fault=FaultKind.RATE_LIMITED))
    scenario.receive_ticket()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert (scenario.job.state, scenario.job.fault) == (JobState.EXPIRED, FaultKind.RATE_LIMITED)
    assert not is_safe_to_retry(scenario.job)


def test_body_key_is_freed_only_if_retry_is_safe() -> None:
    ends = [fail_with_each_seller(kind).commits[-1] for kind in (FaultKind.NO_CREDIT, FaultKind.RESPONSE_LOST)]
    assert [(end.is_refused, end.idempotency_ttl) for end in ends] == [
        (True, BODY_KEY_TTL_SECONDS),
        (False, BODY_KEY_TTL_SECONDS),
    ]
