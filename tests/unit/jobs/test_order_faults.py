"""Every fault of an order: its booking, and the state of its images."""

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from gateway.jobs.job import AttemptState, JobState, PartState
from gateway.jobs.job_update_types import AttemptAbandoned, ImagesStored, OrderFailed
from gateway.jobs.transition_tables import LEDGER_LINE_BY_CHARGE, LedgerLine
from providers.faults import VERDICTS, ChargeStatus, FaultKind
from tests.unit.jobs.job_scenario import FENCE, PRICE, JobScenario, make_new_job


class FaultRow(NamedTuple):
    """One row of the expected table, written independently of the tables in the code."""

    line: LedgerLine | None
    part_state: PartState
    part_state_if_reordered: PartState


FAIL_OVER = FaultRow(None, PartState.WAITING, PartState.WAITING)
UNKNOWN_CHARGE = FaultRow(LedgerLine.SUSPECTED, PartState.FAILED, PartState.WAITING)
FAULT_ROWS = {
    FaultKind.NOT_SENT: FAIL_OVER,
    FaultKind.GATEWAY_BUSY: FAIL_OVER,
    FaultKind.INVALID_ORDER: FAIL_OVER,
    FaultKind.NOT_FOUND: FAIL_OVER,
    FaultKind.INVALID_KEY: FAIL_OVER,
    FaultKind.NO_CREDIT: FAIL_OVER,
    FaultKind.FORBIDDEN: FAIL_OVER,
    FaultKind.RATE_LIMITED: FAIL_OVER,
    FaultKind.UNAVAILABLE: FAIL_OVER,
    FaultKind.ORDER_FAILED: FAIL_OVER,
    FaultKind.INPUT_MISSING: FaultRow(None, PartState.FAILED, PartState.FAILED),
    FaultKind.CONTENT_REFUSED: FaultRow(None, PartState.FAILED, PartState.FAILED),
    FaultKind.RESPONSE_LOST: UNKNOWN_CHARGE,
    FaultKind.SERVER_ERROR: UNKNOWN_CHARGE,
    FaultKind.OVERLOADED: UNKNOWN_CHARGE,
    FaultKind.IDEMPOTENCY_CONFLICT: UNKNOWN_CHARGE,
    FaultKind.UNREADABLE: UNKNOWN_CHARGE,
    FaultKind.UNKNOWN_STATUS: UNKNOWN_CHARGE,
    FaultKind.ORDER_CANCELLED: UNKNOWN_CHARGE,
    FaultKind.ORDER_TIMED_OUT: UNKNOWN_CHARGE,
    FaultKind.NO_IMAGES: FaultRow(LedgerLine.ORPHAN, PartState.WAITING, PartState.WAITING),
    FaultKind.IMAGES_EXPIRED: FaultRow(LedgerLine.ORPHAN, PartState.FAILED, PartState.FAILED),
    FaultKind.IMAGE_WITHHELD: FaultRow(LedgerLine.ORPHAN, PartState.FAILED, PartState.FAILED),
    FaultKind.IMAGE_UNMODERATED: FaultRow(LedgerLine.ORPHAN, PartState.FAILED, PartState.FAILED),
}
ABANDONABLE_FAULTS = [kind for kind in FaultKind if VERDICTS[kind].charge_status is not ChargeStatus.NOT_CHARGED]


def expect_booking(line: LedgerLine | None, amount: int = 2 * PRICE) -> dict[LedgerLine, int]:
    return {line: amount} if line else {}


def test_every_fault_kind_has_a_row() -> None:
    assert set(FAULT_ROWS) == set(FaultKind)
    assert set(LEDGER_LINE_BY_CHARGE) == set(ChargeStatus)


@pytest.mark.parametrize("reorder", [False, True], ids=["fail", "reorder"])
@pytest.mark.parametrize("kind", FaultKind)
def test_fault_decides_booking_and_part_state(kind: FaultKind, reorder: bool) -> None:
    scenario = JobScenario(make_new_job(n=2, reorder_on_unknown=reorder))
    scenario.start_attempt(images=(0, 1))
    scenario.fail_order(kind)
    row = FAULT_ROWS[kind]
    state = row.part_state_if_reordered if reorder else row.part_state
    assert scenario.sum_ledger() == expect_booking(row.line)
    assert scenario.list_images(state) == [0, 1]
    assert scenario.get_outcome() == ((JobState.IN_PROGRESS, False) if state.is_open else (JobState.FAILED, True))
    assert scenario.last_attempt.fault is scenario.job.parts[0].fault is kind
    assert scenario.job.fault == (None if state.is_open else kind)


@pytest.mark.parametrize("reorder", [False, True], ids=["fail", "reorder"])
@pytest.mark.parametrize("kind", FaultKind)
def test_last_try_ends_images_after_any_fault(kind: FaultKind, reorder: bool) -> None:
    scenario = JobScenario(make_new_job(n=2, reorder_on_unknown=reorder, max_attempts=1))
    scenario.start_attempt(images=(0, 1))
    scenario.fail_order(kind)
    assert scenario.sum_ledger() == expect_booking(FAULT_ROWS[kind].line)
    assert scenario.list_images(PartState.FAILED) == [0, 1]
    assert scenario.get_outcome() == (JobState.FAILED, True)
    assert scenario.job.fault is kind


@pytest.mark.parametrize("kind", FaultKind)
def test_ticket_does_not_change_effect_of_fault(kind: FaultKind) -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0, 1))
    assert scenario.last_attempt.state is AttemptState.TICKETED
    scenario.fail_order(kind)
    assert (scenario.sum_ledger(), scenario.list_images(FAULT_ROWS[kind].part_state)) == (
        expect_booking(FAULT_ROWS[kind].line),
        [0, 1],
    )


@pytest.mark.parametrize("kind", FaultKind)
def test_reported_cost_is_booked_as_orphan(kind: FaultKind) -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0, 1))
    scenario.fail_order(kind, cost=90_001)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: 90_001}
    assert scenario.list_images(FAULT_ROWS[kind].part_state) == [0, 1]


@pytest.mark.parametrize("kind", FaultKind)
def test_reported_zero_cost_books_nothing(kind: FaultKind) -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0, 1))
    scenario.fail_order(kind, cost=0)
    assert (scenario.sum_ledger(), scenario.list_images(FAULT_ROWS[kind].part_state)) == ({}, [0, 1])


@pytest.mark.parametrize("kind", ABANDONABLE_FAULTS)
def test_abandoning_attempt_books_like_reported_fault(kind: FaultKind) -> None:
    scenario = JobScenario(make_new_job(n=2))
    number = scenario.receive_ticket(images=(0, 1))
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=number, fault=kind), 420.0)
    assert (scenario.sum_ledger(), scenario.list_images(FAULT_ROWS[kind].part_state)) == (
        expect_booking(FAULT_ROWS[kind].line),
        [0, 1],
    )


@pytest.mark.parametrize("kind", sorted(set(FaultKind) - set(ABANDONABLE_FAULTS)))
def test_abandoning_cannot_prove_missing_charge(kind: FaultKind) -> None:
    scenario = JobScenario()
    number = scenario.receive_ticket()
    assert "does not prove" in scenario.expect_ignored(AttemptAbandoned(fence=FENCE, attempt=number, fault=kind), 420.0)


@pytest.mark.parametrize("kind", FaultKind)
def test_ready_order_ends_only_with_loss_of_its_images(kind: FaultKind) -> None:
    """A contradicting or late response to an earlier poll must not cause a second order."""
    scenario = JobScenario(make_new_job(reorder_on_unknown=True))
    number = scenario.receive_ticket()
    scenario.report_images_ready()
    failed = OrderFailed(attempt=number, fault=kind)
    if VERDICTS[kind].charge_status is ChargeStatus.CHARGED:
        scenario.apply(failed, 9.0)
        assert scenario.sum_ledger() == {LedgerLine.ORPHAN: PRICE}
    else:
        given_up = AttemptAbandoned(fence=FENCE, attempt=number, fault=kind)
        assert scenario.expect_ignored(failed)
        assert scenario.expect_ignored(replace(failed, cost=0))
        assert scenario.expect_ignored(given_up)


@pytest.mark.parametrize("kind", FaultKind)
def test_images_missing_from_delivery_follow_fault_table(kind: FaultKind) -> None:
    scenario = JobScenario(make_new_job(n=2))
    number = scenario.receive_ticket(images=(0, 1))
    scenario.apply(ImagesStored(attempt=number, images=(0,), made_count=1, missing_fault=kind), 9.0)
    assert scenario.list_images(PartState.DELIVERED) == [0]
    assert scenario.list_images(FAULT_ROWS[kind].part_state) == [1]
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: PRICE}


def test_withheld_image_is_booked_as_orphan_without_an_undelivered_image() -> None:
    """The seller delivered it, so that its canary must not count it as undelivered."""
    scenario = JobScenario(make_new_job(n=2))
    number = scenario.receive_ticket(images=(0, 1))
    withheld = ImagesStored(attempt=number, images=(0,), made_count=2, missing_fault=FaultKind.IMAGE_WITHHELD)
    scenario.apply(withheld, 9.0)
    entries = {entry.line: (entry.amount, entry.images, entry.reason) for entry in scenario.commits[-1].ledger_entries}
    assert entries == {
        LedgerLine.CAPTURE: (PRICE, 1, ""),
        LedgerLine.ORPHAN: (PRICE, 0, FaultKind.IMAGE_WITHHELD),
    }
    assert (scenario.job.state, scenario.job.fault) == (JobState.COMPLETED, FaultKind.IMAGE_WITHHELD)


def test_content_refusal_outranks_other_faults() -> None:
    scenario = JobScenario(make_new_job(n=3, max_attempts=1))
    for image, kind in enumerate((FaultKind.ORDER_FAILED, FaultKind.CONTENT_REFUSED, FaultKind.RESPONSE_LOST)):
        scenario.start_attempt(images=(image,))
        scenario.fail_order(kind)
    assert scenario.job.fault is FaultKind.CONTENT_REFUSED


def test_content_refusal_of_one_image_keeps_the_others_going() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0,))
    scenario.fail_order(FaultKind.CONTENT_REFUSED)
    scenario.start_attempt(images=(1,))
    scenario.store_images((1,))
    assert scenario.job.state is JobState.COMPLETED
    assert scenario.job.fault is FaultKind.CONTENT_REFUSED
