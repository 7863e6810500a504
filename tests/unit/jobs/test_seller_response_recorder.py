"""What sellers said is kept with the attempt that it explains."""

from gateway.jobs.commit import decode_job
from gateway.jobs.job import SellerResponse
from gateway.jobs.job_update_types import AttemptAbandoned, OrderFailed, ResponseLost
from gateway.jobs.seller_response_recorder import (
    MAX_JOB_CHARACTERS,
    MAX_LATER_MESSAGE_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
)
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import FENCE, JobScenario, make_new_job, make_route_entry

REJECTION = SellerResponse(status=422, code="bad_order", message="size must be divisible by 16")
LOST = SellerResponse(status=500, code="INTERNAL_ERROR", message="An internal error occurred.")
ANOMALY = SellerResponse(notes=("cost_unreadable",))


def test_rejection_is_kept_with_its_attempt() -> None:
    scenario = JobScenario()
    scenario.start_attempt(0)
    commit = scenario.fail_order(FaultKind.INVALID_ORDER, seller_response=REJECTION)
    scenario.start_attempt(1)
    scenario.store_images()
    assert scenario.job.get_seller_response(1) == REJECTION
    assert scenario.job.get_seller_response(2) is None
    assert decode_job(commit.encoded_job).get_seller_response(1) == REJECTION


def test_lost_response_explains_an_attempt_that_is_abandoned() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=1, fault=FaultKind.SERVER_ERROR, seller_response=LOST))
    assert scenario.job.get_seller_response(1) == LOST
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.SERVER_ERROR), 130)
    assert scenario.job.get_seller_response(1) == LOST


def test_last_response_of_an_attempt_counts() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=1, fault=FaultKind.SERVER_ERROR, seller_response=LOST))
    scenario.fail_order(FaultKind.CONTENT_REFUSED, seller_response=REJECTION)
    assert scenario.job.get_seller_response(1) == REJECTION


def test_unanswered_polls_are_explained() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    unknown = SellerResponse(code="hibernating")
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.UNKNOWN_STATUS, seller_response=unknown))
    assert scenario.job.get_seller_response(1) == unknown


def test_delivery_keeps_only_notes() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=1, fault=FaultKind.SERVER_ERROR, seller_response=LOST))
    scenario.report_images_ready(seller_response=ANOMALY)
    scenario.store_images()
    assert scenario.job.get_seller_response(1) == ANOMALY


def test_delivery_without_anomaly_keeps_nothing() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=1, fault=FaultKind.SERVER_ERROR, seller_response=LOST))
    scenario.store_images()
    assert scenario.job.seller_responses == ()


def test_late_failure_explains_an_attempt_that_timed_out_once() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.ORDER_TIMED_OUT), 420)
    late_failure = OrderFailed(attempt=1, fault=FaultKind.CONTENT_REFUSED, seller_response=REJECTION)
    scenario.apply(late_failure, 430)
    assert scenario.job.get_seller_response(1) == REJECTION
    again = OrderFailed(attempt=1, fault=FaultKind.CONTENT_REFUSED, seller_response=LOST)
    assert scenario.expect_ignored(again, 440) == "nothing new"


def test_many_long_messages_leave_the_stored_job_small() -> None:
    route = tuple(make_route_entry(f"seller-{number}", max_images=1) for number in range(3))
    scenario = JobScenario(make_new_job(n=10, route=route))
    long_response = SellerResponse(status=400, code="c" * 300, message="m" * 2_000)
    for number in range(30):
        scenario.start_attempt(number // 10, (number % 10,))
        scenario.fail_order(FaultKind.INVALID_ORDER, seller_response=long_response)
    lengths = [len(entry.response.message) for entry in scenario.job.seller_responses]
    full_messages = MAX_JOB_CHARACTERS // MAX_MESSAGE_CHARACTERS
    assert lengths[:full_messages] == [MAX_MESSAGE_CHARACTERS] * full_messages
    assert lengths[full_messages:] == [MAX_LATER_MESSAGE_CHARACTERS] * (30 - full_messages)
    without = JobScenario(make_new_job(n=10, route=route))
    for number in range(30):
        without.start_attempt(number // 10, (number % 10,))
        without.fail_order(FaultKind.INVALID_ORDER)
    growth = len(scenario.commits[-1].encoded_job) - len(without.commits[-1].encoded_job)
    assert growth < MAX_JOB_CHARACTERS + 30 * 200
