"""A job that is cancelled, expires or is abandoned."""

import pytest

from gateway.jobs.job import JobState, PartState
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    AttemptStarted,
    CallbackReceived,
    CancelRequested,
    ImagesReady,
    ImagesStored,
    JobAbandoned,
    JobExpired,
    JobUpdate,
    OrderFailed,
    PartAbandoned,
    ResponseLost,
)
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, PRICE, START, JobScenario, make_new_job

EXPIRY = JobExpired(fence=FENCE)
ABANDONMENT = JobAbandoned(fence=FENCE)


# --- cancel


def test_job_cancelled_before_any_order_costs_nothing() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.apply(CancelRequested())
    assert scenario.get_outcome() == (JobState.CANCELLED, True)
    assert (scenario.sum_ledger(), scenario.job.hold, scenario.list_images(PartState.DROPPED)) == ({}, 0, [0, 1])


def test_cancel_awaits_running_orders_and_drops_waiting_images() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.receive_ticket(images=(0,))
    scenario.apply(CancelRequested())
    assert scenario.get_outcome() == (JobState.IN_PROGRESS, False)
    assert (scenario.list_images(PartState.BUYING), scenario.list_images(PartState.DROPPED)) == ([0], [1, 2])
    assert "do not belong to one waiting part" in scenario.expect_ignored(
        AttemptStarted(fence=FENCE, route_index=0, images=(1,))
    )
    scenario.store_images((0,))
    assert scenario.get_outcome() == (JobState.CANCELLED, True)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: PRICE}
    assert scenario.job.warnings == ("partial_delivery: 1 of 3 images",)


def test_images_that_arrive_after_cancel_are_kept_and_charged() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(CancelRequested())
    scenario.store_images()
    assert scenario.get_outcome() == (JobState.CANCELLED, True)
    assert (scenario.sum_ledger(), scenario.job.delivered_images, scenario.job.fault) == (
        {LedgerLine.CAPTURE: PRICE},
        (0,),
        None,
    )


def test_cancel_after_success_is_ignored() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.store_images()
    assert "completed" in scenario.expect_ignored(CancelRequested())


def test_cancelled_job_does_not_fail_over() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(CancelRequested())
    scenario.fail_order(FaultKind.ORDER_FAILED)
    assert scenario.get_outcome() == (JobState.CANCELLED, True)
    assert scenario.list_images(PartState.DROPPED) == [0]


def test_cancelled_job_keeps_final_fault() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(CancelRequested())
    scenario.fail_order(FaultKind.CONTENT_REFUSED)
    assert (scenario.job.state, scenario.job.fault) == (JobState.CANCELLED, FaultKind.CONTENT_REFUSED)
    assert scenario.list_images(PartState.FAILED) == [0]


def test_second_cancel_is_ignored() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(CancelRequested())
    assert scenario.expect_ignored(CancelRequested()) == "nothing new"


# --- deadline


@pytest.mark.parametrize("seconds", [0.0, DEADLINE_SECONDS - 0.001])
def test_job_does_not_expire_before_deadline(seconds: float) -> None:
    assert "not passed" in JobScenario().expect_ignored(EXPIRY, seconds)


def test_unordered_job_expires_at_deadline() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    assert scenario.get_outcome() == (JobState.EXPIRED, True)
    assert (scenario.sum_ledger(), scenario.job.hold) == ({}, 0)


def test_no_order_starts_after_deadline() -> None:
    assert "nothing more" in JobScenario().expect_ignored(
        AttemptStarted(fence=FENCE, route_index=0, images=(0,)), DEADLINE_SECONDS
    )


def test_seller_queue_timeout_at_deadline_expires_job_without_fault() -> None:
    """An order that waits for a limiter until the deadline is not a seller's failure."""
    scenario = JobScenario()
    assert "deadline" in scenario.expect_ignored(
        PartAbandoned(fence=FENCE, images=(0,), fault=FaultKind.RATE_LIMITED), DEADLINE_SECONDS
    )
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    assert scenario.get_outcome() == (JobState.EXPIRED, True)
    assert scenario.job.fault is None


def test_running_order_keeps_expired_job_unsettled() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0, 1))
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    assert scenario.get_outcome() == (JobState.EXPIRED, False)
    assert scenario.commits[-1].due_at is not None
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.ORDER_TIMED_OUT), DEADLINE_SECONDS + 100)
    assert scenario.get_outcome() == (JobState.EXPIRED, True)
    assert scenario.sum_ledger() == {LedgerLine.SUSPECTED: 2 * PRICE}


@pytest.mark.parametrize("update", [ImagesReady(attempt=1), ImagesStored(attempt=1, images=(0,))])
def test_late_images_are_booked_as_orphan(update: JobUpdate) -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    scenario.apply(update, DEADLINE_SECONDS + 10)
    assert scenario.get_outcome() == (JobState.EXPIRED, True)
    assert (scenario.sum_ledger(), scenario.job.delivered_images) == ({LedgerLine.ORPHAN: PRICE}, ())
    assert scenario.last_attempt.fault is FaultKind.ORDER_TIMED_OUT


def test_order_that_fails_after_deadline_costs_nothing() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    scenario.fail_order(FaultKind.ORDER_FAILED, DEADLINE_SECONDS + 10)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == ((JobState.EXPIRED, True), {})


def test_ready_images_are_awaited_beyond_deadline() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.receive_ticket(images=(0,))
    scenario.report_images_ready()
    scenario.receive_ticket(images=(1,))
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    assert scenario.get_outcome() == (JobState.IN_PROGRESS, False)
    assert (scenario.list_images(PartState.BUYING), scenario.list_images(PartState.FAILED)) == ([0], [1, 2])
    assert scenario.expect_ignored(EXPIRY, DEADLINE_SECONDS + 1) == "nothing new"
    scenario.apply(ImagesStored(attempt=1, images=(0,)), DEADLINE_SECONDS + 2)
    assert scenario.get_outcome() == (JobState.COMPLETED, False)
    assert (scenario.job.delivered_images, scenario.job.warnings) == ((0,), ("partial_delivery: 1 of 3 images",))
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=2, fault=FaultKind.ORDER_TIMED_OUT), DEADLINE_SECONDS + 100)
    assert scenario.get_outcome() == (JobState.COMPLETED, True)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: PRICE, LedgerLine.SUSPECTED: PRICE}


def test_ready_images_that_are_lost_expire_job() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.report_images_ready()
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.IMAGES_EXPIRED), DEADLINE_SECONDS + 90_000)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == ((JobState.EXPIRED, True), {LedgerLine.ORPHAN: PRICE})


def test_no_failover_after_deadline() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.report_images_ready()
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    scenario.fail_order(FaultKind.NO_IMAGES, DEADLINE_SECONDS + 1)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == ((JobState.EXPIRED, True), {LedgerLine.ORPHAN: PRICE})


def test_cancelled_job_at_deadline_stays_cancelled() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(CancelRequested())
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    assert scenario.get_outcome() == (JobState.CANCELLED, False)


# --- abandonment


def test_abandoned_job_finishes_running_orders_and_starts_none() -> None:
    """No order starts even if the policy allows reorders: a worker that reorders would crash."""
    scenario = JobScenario(make_new_job(n=5, reorder_on_unknown=True))
    scenario.receive_ticket(images=(0,))
    scenario.store_images((0,))
    scenario.receive_ticket(images=(1,))
    scenario.start_attempt(images=(2,))
    scenario.receive_ticket(images=(3,))
    scenario.apply(ABANDONMENT, 5.0)
    assert (scenario.get_outcome(), scenario.job.is_abandoned) == ((JobState.IN_PROGRESS, False), True)
    assert (scenario.list_images(PartState.BUYING), scenario.list_images(PartState.FAILED)) == ([1, 2, 3], [4])
    scenario.apply(ImagesStored(attempt=2, images=(1,)), 6.0)
    scenario.apply(ResponseLost(attempt=3), 6.0)
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=3, fault=FaultKind.RESPONSE_LOST), 126.0)
    assert scenario.list_images(PartState.FAILED) == [2, 4], "nothing is tried elsewhere, though the policy would"
    scenario.apply(OrderFailed(attempt=4, fault=FaultKind.ORDER_FAILED), 127.0)
    assert scenario.get_outcome() == (JobState.COMPLETED, True)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 2 * PRICE, LedgerLine.SUSPECTED: PRICE}
    assert scenario.list_images(PartState.FAILED) == [2, 3, 4]


@pytest.mark.parametrize("reorder", [False, True])
def test_abandoned_job_keeps_its_order_settings(reorder: bool) -> None:
    scenario = JobScenario(make_new_job(n=2, reorder_on_unknown=reorder))
    scenario.receive_ticket(images=(0,))
    scenario.apply(ABANDONMENT, 5.0)
    assert (scenario.job.max_attempts, scenario.job.reorder_on_unknown) == (3, reorder)
    assert "nothing more is ordered" in scenario.expect_ignored(ABANDONMENT, 6.0)
    assert "do not belong to one waiting part" in scenario.expect_ignored(
        AttemptStarted(fence=FENCE, route_index=1, images=(1,)), 6.0
    )


def test_image_that_fails_after_abandonment_is_not_ordered_again() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(ABANDONMENT, 5.0)
    scenario.fail_order(FaultKind.UNAVAILABLE, 6.0)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == ((JobState.FAILED, True), {})


def test_abandoned_job_without_images_fails() -> None:
    scenario = JobScenario()
    scenario.apply(ABANDONMENT)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == ((JobState.FAILED, True), {})
    assert "nothing more is ordered" in scenario.expect_ignored(ABANDONMENT)


def test_terminal_job_is_not_abandoned() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    assert "nothing more is ordered" in scenario.expect_ignored(ABANDONMENT, DEADLINE_SECONDS + 5)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == ((JobState.EXPIRED, False), {})


# --- callbacks


def test_callback_only_records_that_seller_has_order() -> None:
    scenario = JobScenario()
    number = scenario.lose_response()
    scenario.apply(CallbackReceived(attempt=number), 3.0)
    assert scenario.last_attempt.callback_at == START + 3.0
    assert scenario.get_outcome() == (JobState.IN_PROGRESS, False)
    assert scenario.expect_ignored(CallbackReceived(attempt=number), 4.0) == "nothing new"


def test_callback_after_end_is_ignored() -> None:
    scenario = JobScenario()
    number = scenario.receive_ticket()
    scenario.store_images()
    assert scenario.expect_ignored(CallbackReceived(attempt=number)) == "nothing new"
    assert scenario.expect_ignored(CallbackReceived(attempt=9)) == "no such attempt"
