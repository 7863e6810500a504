"""Updates after an order was closed change the ledger only, never the amount that the team paid."""

import pytest
from msgspec.structs import replace

from gateway.jobs.job import AttemptState, JobState
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    ImagesReady,
    ImagesStored,
    JobUpdate,
    OrderFact,
    OrderFailed,
    OrderRejected,
    ResponseLost,
    TicketReceived,
)
from gateway.jobs.transition_tables import LedgerLine
from gateway.jobs.transitions import Ignored, apply_update
from providers.faults import VERDICTS, ChargeStatus, FaultKind, PollPolicy
from tests.unit.jobs.job_scenario import FENCE, PRICE, START, JobScenario, make_new_job

LATE_SECONDS = 500.0


def make_suspected_charge() -> JobScenario:
    """Makes a job of two images whose order was not found."""
    scenario = JobScenario(make_new_job(n=2))
    number = scenario.lose_response(images=(0, 1))
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=number, fault=FaultKind.RESPONSE_LOST), 120.0)
    assert (scenario.get_outcome(), scenario.sum_ledger()) == (
        (JobState.FAILED, True),
        {LedgerLine.SUSPECTED: 2 * PRICE},
    )
    return scenario


def list_last_entries(scenario: JobScenario) -> list[tuple[LedgerLine, int, int]]:
    return [(entry.line, entry.amount, entry.images) for entry in scenario.commits[-1].ledger_entries]


@pytest.mark.parametrize("update", [ImagesReady(attempt=1), ImagesStored(attempt=1, images=(0, 1))])
def test_suspected_charge_that_proves_true_becomes_orphan(update: JobUpdate) -> None:
    scenario = make_suspected_charge()
    scenario.apply(update, LATE_SECONDS)
    assert list_last_entries(scenario) == [(LedgerLine.ORPHAN, 2 * PRICE, 2), (LedgerLine.SUSPECTED, -2 * PRICE, -2)]
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: 2 * PRICE}
    assert scenario.job.delivered_images == ()


@pytest.mark.parametrize(
    "update", [ImagesReady(attempt=1, made_count=1), ImagesStored(attempt=1, images=(0,), made_count=1)]
)
def test_late_images_are_booked_by_number_that_was_made(update: JobUpdate) -> None:
    scenario = make_suspected_charge()
    scenario.apply(update, LATE_SECONDS)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: PRICE}


def test_expired_images_are_booked_by_number_that_was_made() -> None:
    scenario = JobScenario(make_new_job(n=2))
    number = scenario.lose_response(images=(0, 1))
    scenario.apply(ImagesReady(attempt=number, made_count=1, image_urls=("https://a.example/1",)), 20.0)
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=number, fault=FaultKind.IMAGES_EXPIRED), LATE_SECONDS)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: PRICE}


def test_suspected_charge_is_reversed_when_order_failed() -> None:
    scenario = make_suspected_charge()
    scenario.apply(OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED), LATE_SECONDS)
    assert list_last_entries(scenario) == [(LedgerLine.SUSPECTED, -2 * PRICE, -2)]
    assert scenario.sum_ledger() == {}


@pytest.mark.parametrize("cost", [1, 70_000])
def test_failure_with_cost_is_orphan_of_that_amount(cost: int) -> None:
    scenario = make_suspected_charge()
    scenario.apply(OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED, cost=cost), LATE_SECONDS)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: cost}


@pytest.mark.parametrize(
    "update",
    [
        ImagesReady(attempt=1, cost=0),
        ImagesStored(attempt=1, images=(0, 1), cost=0),
        ImagesStored(attempt=1, images=(), made_count=0),
        OrderFailed(attempt=1, fault=FaultKind.ORDER_CANCELLED, cost=0),
    ],
    ids=["ready", "delivered", "nothing made", "cancelled"],
)
def test_suspected_charge_that_proves_free_is_reversed(update: JobUpdate) -> None:
    scenario = make_suspected_charge()
    scenario.apply(update, LATE_SECONDS)
    assert scenario.sum_ledger() == {}


@pytest.mark.parametrize("kind", FaultKind)
def test_late_fault_counts_only_if_it_proves_how_order_ended(kind: FaultKind) -> None:
    scenario = make_suspected_charge()
    fact = OrderFailed(attempt=1, fault=kind)
    verdict = VERDICTS[kind]
    if verdict.poll_policy is not PollPolicy.ACCEPT_AS_FINAL or verdict.charge_status is ChargeStatus.UNKNOWN:
        assert "no evidence" in scenario.expect_ignored(fact, LATE_SECONDS)
    else:
        scenario.apply(fact, LATE_SECONDS)
        assert scenario.sum_ledger() == (
            {LedgerLine.ORPHAN: 2 * PRICE} if verdict.charge_status is ChargeStatus.CHARGED else {}
        )


def test_images_of_failed_order_are_orphan() -> None:
    scenario = JobScenario(make_new_job(max_attempts=1))
    scenario.receive_ticket()
    scenario.fail_order(FaultKind.ORDER_FAILED)
    assert scenario.sum_ledger() == {}
    scenario.apply(ImagesReady(attempt=1, cost=88_000), LATE_SECONDS)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: 88_000}


def test_images_of_replaced_order_are_orphan() -> None:
    """The team pays for one image, whichever order delivered it."""
    scenario = JobScenario(make_new_job(reorder_on_unknown=True))
    scenario.lose_response()
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.RESPONSE_LOST), 120.0)
    scenario.start_attempt(1, seconds=121.0)
    scenario.apply(ImagesStored(attempt=1, images=(0,)), 130.0)
    assert scenario.get_outcome() == (JobState.IN_PROGRESS, False)
    scenario.store_images(seconds=140.0)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: PRICE, LedgerLine.ORPHAN: PRICE}


@pytest.mark.parametrize(
    "late_update",
    [
        ImagesStored(attempt=1, images=(0,)),
        ImagesStored(attempt=1, images=(0,), cost=5),
        ImagesReady(attempt=1),
        OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED),
        OrderFailed(attempt=1, fault=FaultKind.NO_IMAGES, cost=9),
        AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.ORDER_TIMED_OUT),
        ResponseLost(attempt=1),
    ],
    ids=lambda update: type(update).__name__,
)
def test_delivered_order_ignores_later_updates(late_update: JobUpdate) -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.store_images()
    scenario.expect_ignored(late_update, LATE_SECONDS)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: PRICE}


def test_late_images_are_booked_once() -> None:
    scenario = make_suspected_charge()
    scenario.apply(ImagesReady(attempt=1), LATE_SECONDS)
    for update in (
        ImagesReady(attempt=1),
        ImagesReady(attempt=1, cost=5),
        ImagesStored(attempt=1, images=(0, 1)),
        OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED),
    ):
        scenario.expect_ignored(update, LATE_SECONDS + 1)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: 2 * PRICE}


def test_zero_cost_is_kept_when_images_turn_up() -> None:
    scenario = JobScenario(make_new_job(max_attempts=1))
    scenario.receive_ticket()
    scenario.fail_order(FaultKind.ORDER_FAILED, cost=0)
    scenario.expect_ignored(ImagesReady(attempt=1), LATE_SECONDS)
    assert scenario.sum_ledger() == {}


def test_late_ticket_is_kept() -> None:
    scenario = make_suspected_charge()
    scenario.apply(TicketReceived(attempt=1, ticket="run-late"), LATE_SECONDS)
    assert (scenario.last_attempt.ticket, scenario.last_attempt.state) == ("run-late", AttemptState.CLOSED)
    assert scenario.sum_ledger() == {LedgerLine.SUSPECTED: 2 * PRICE}
    assert scenario.get_outcome() == (JobState.FAILED, True)


@pytest.mark.parametrize("number", [-1, 0, 2, 10**30])
@pytest.mark.parametrize(
    "update",
    [
        TicketReceived(attempt=0, ticket="x"),
        ImagesReady(attempt=0),
        OrderFailed(attempt=0, fault=FaultKind.ORDER_FAILED),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_updates_for_unknown_attempt_are_ignored(number: int, update: OrderFact) -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    assert scenario.expect_ignored(replace(update, attempt=number)) == "no such attempt"


def test_response_is_lost_only_while_awaited() -> None:
    scenario = JobScenario()
    number = scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=number), 1.0)
    assert scenario.expect_ignored(ResponseLost(attempt=number), 9.0) == "nothing new"
    scenario.apply(TicketReceived(attempt=number, ticket="run-1"), 10.0)
    assert scenario.last_attempt.response_lost_at is None
    assert "does not wait for a response" in scenario.expect_ignored(ResponseLost(attempt=number), 11.0)
    scenario.report_images_ready(12.0)
    assert "does not wait for a response" in scenario.expect_ignored(ResponseLost(attempt=number), 13.0)


@pytest.mark.parametrize(
    "kind", [kind for kind in FaultKind if VERDICTS[kind].charge_status is not ChargeStatus.UNKNOWN]
)
def test_only_fault_with_unknown_charge_can_lose_response(kind: FaultKind) -> None:
    """After any other fault, the order could neither be searched for nor abandoned."""
    scenario = JobScenario()
    number = scenario.start_attempt()
    assert scenario.expect_ignored(ResponseLost(attempt=number, fault=kind))


@pytest.mark.parametrize("fault", [FaultKind.NOT_SENT, FaultKind.RATE_LIMITED, FaultKind.INVALID_ORDER])
def test_rejection_of_one_send_is_ignored_after_another_send_was_accepted(fault: FaultKind) -> None:
    """A paused worker's order was never sent, and the next worker sent it again with the same idempotency key."""
    scenario = JobScenario()
    scenario.receive_ticket()
    rejections = (
        OrderFailed(attempt=1, fault=fault, is_rejection=True),
        OrderRejected(fence=FENCE, failure=OrderFailed(attempt=1, fault=fault)),
    )
    assert all(isinstance(apply_update(scenario.job, rejection, START + 2), Ignored) for rejection in rejections)
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.ORDER_TIMED_OUT))
    assert scenario.job.attempts[0].suspected_amount
    assert all(isinstance(apply_update(scenario.job, rejection, START + 3), Ignored) for rejection in rejections)


def test_rejection_without_ticket_closes_attempt_as_not_charged() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.apply(OrderRejected(fence=FENCE, failure=OrderFailed(attempt=1, fault=FaultKind.NOT_SENT)))
    [attempt] = scenario.job.attempts
    assert (attempt.state.is_open, attempt.fault, attempt.suspected_amount) == (False, FaultKind.NOT_SENT, 0)


def test_abandonment_of_lost_order_is_ignored_after_its_ticket_was_found() -> None:
    """The worker abandoned the order as lost, and its ticket was saved first."""
    scenario = JobScenario()
    number = scenario.lose_response()
    abandonment = AttemptAbandoned(fence=FENCE, attempt=number, fault=FaultKind.RESPONSE_LOST, is_lost=True)
    scenario.apply(TicketReceived(attempt=number, ticket="run-1"), 130.0)
    assert scenario.expect_ignored(abandonment, 131.0) == "the order is found"
    scenario.apply(replace(abandonment, is_lost=False), 132.0)
    assert not scenario.last_attempt.state.is_open
