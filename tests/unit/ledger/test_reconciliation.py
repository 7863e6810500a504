"""Each order of a seller's invoice, compared with the ledger: what is found, and what is booked."""

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import Job
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.finding_summary import has_no_match
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge
from gateway.ledger.reconciliation import OrderFinding, Period, Reconciliation, ReconciliationOutcome, group_orders
from gateway.store.base import DAY_SECONDS
from tests.store import job_factory
from tests.store.job_factory import DAY, NOON
from tests.unit.ledger.sample_entry import ENTRY, JOB_ID

REFERENCE = f"{JOB_ID}-1"
SUSPECTED = replace(ENTRY, line=LedgerLine.SUSPECTED, reason="response_lost")
WITHOUT_TICKET = replace(SUSPECTED, ticket="")
PERIOD = Period(NOON - 600, NOON + 2 * DAY_SECONDS)
CHARGE = SellerCharge(order_id="ticket-1", reference=REFERENCE, amount=40_000, images=1, charged_at=NOON)


def compare(
    entries: list[LedgerEntry], *charges: SellerCharge, jobs: dict[str, Job] | None = None
) -> list[OrderFinding]:
    reconciliation = Reconciliation("runapi", group_orders(entries), jobs or {}, PERIOD.last_at + DAY_SECONDS)
    return list(reconciliation.compare(charges, PERIOD))


def list_booked(finding: OrderFinding) -> list[tuple[str, int, int]]:
    if finding.correction is None:
        return []
    return [(entry.line.value, entry.amount, entry.images) for entry in finding.correction.entries]


@pytest.mark.parametrize(
    ("entry", "charges", "outcome", "booked"),
    [
        (ENTRY, [CHARGE], ReconciliationOutcome.MATCHED, []),
        (ENTRY, [replace(CHARGE, order_id="")], ReconciliationOutcome.MATCHED, []),
        (replace(ENTRY, ticket=""), [CHARGE], ReconciliationOutcome.MATCHED, []),
        (ENTRY, [], ReconciliationOutcome.MISSING_THERE, []),
        (ENTRY, [replace(CHARGE, amount=40_001)], ReconciliationOutcome.PRICE_DIFFERS, [("excess", 1, 0)]),
        (ENTRY, [replace(CHARGE, amount=30_000)], ReconciliationOutcome.PRICE_DIFFERS, [("excess", -10_000, 0)]),
        (
            replace(ENTRY, line=LedgerLine.ORPHAN),
            [replace(CHARGE, amount=40_001)],
            ReconciliationOutcome.PRICE_DIFFERS,
            [("orphan", 1, 0)],
        ),
        (
            SUSPECTED,
            [CHARGE],
            ReconciliationOutcome.SUSPECTED_CHARGED,
            [("suspected", -40_000, -1), ("orphan", 40_000, 1)],
        ),
        (
            WITHOUT_TICKET,
            [CHARGE],
            ReconciliationOutcome.SUSPECTED_CHARGED,
            [("suspected", -40_000, -1), ("orphan", 40_000, 1)],
        ),
        (
            SUSPECTED,
            [replace(CHARGE, amount=55_555)],
            ReconciliationOutcome.SUSPECTED_CHARGED,
            [("suspected", -40_000, -1), ("orphan", 55_555, 1)],
        ),
        (SUSPECTED, [], ReconciliationOutcome.SUSPECTED_NOT_CHARGED, [("suspected", -40_000, -1)]),
        (
            SUSPECTED,
            [replace(CHARGE, amount=0)],
            ReconciliationOutcome.SUSPECTED_NOT_CHARGED,
            [("suspected", -40_000, -1)],
        ),
    ],
)
def test_order_is_compared_and_corrected_once(
    entry: LedgerEntry, charges: list[SellerCharge], outcome: ReconciliationOutcome, booked: list[tuple[str, int, int]]
) -> None:
    (finding,) = compare([entry], *charges)
    assert (finding.outcome, list_booked(finding)) == (outcome, booked)
    corrected = [entry, *(finding.correction.entries if finding.correction else ())]
    assert [list_booked(again) for again in compare(corrected, *charges)] in ([[]], [])


def test_second_charge_of_an_order_is_missing_here() -> None:
    """The seller ignored the idempotency key: one reference has two tickets."""
    second = replace(CHARGE, order_id="ticket-2")
    for charges in ((CHARGE, second), (second, CHARGE)):
        findings = compare([ENTRY], *charges)
        assert [finding.outcome for finding in findings] == [
            ReconciliationOutcome.MATCHED,
            ReconciliationOutcome.MISSING_HERE,
        ]
        assert list_booked(findings[1]) == [("orphan", 40_000, 1)]
        correction = findings[1].correction
        assert correction is not None
        (entry,) = correction.entries
        assert (entry.team, entry.key_id, entry.job, entry.attempt, entry.ticket) == (
            *("acme", "abcdefghij", JOB_ID, 0),
            "ticket-2",
        )
        again = compare([ENTRY, entry], *charges)
        assert [finding.outcome for finding in again] == [ReconciliationOutcome.MATCHED] * 2


def test_both_charges_of_an_order_without_a_ticket_are_booked() -> None:
    charges = (CHARGE, replace(CHARGE, order_id="ticket-2"))
    findings = compare([WITHOUT_TICKET], *charges)
    assert [finding.outcome for finding in findings] == [
        ReconciliationOutcome.SUSPECTED_CHARGED,
        ReconciliationOutcome.MISSING_HERE,
    ]
    corrections = [entry for finding in findings if finding.correction for entry in finding.correction.entries]
    assert [finding.outcome for finding in compare([WITHOUT_TICKET, *corrections], *charges)] == [
        ReconciliationOutcome.MATCHED
    ] * 2


def test_unknown_charge_belongs_to_no_team() -> None:
    for charge in (
        SellerCharge(order_id="strange", amount=7),
        SellerCharge(order_id="", reference="strange", amount=7),
    ):
        (finding,) = compare([], replace(charge, charged_at=NOON))
        assert finding.correction is not None
        (entry,) = finding.correction.entries
        assert (entry.team, entry.seller, entry.day, entry.hour, entry.amount) == ("unknown", "runapi", DAY, 12, 7)
        assert [again.outcome for again in compare([entry], charge)] == [ReconciliationOutcome.MATCHED]


def test_charge_of_an_open_order_is_not_booked() -> None:
    job = job_factory.make_create_commit(NOON).job
    job = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), NOON).job
    charge = SellerCharge(order_id="ticket-1", reference=f"{job.id}-1", amount=40_000)
    (finding,) = compare([], charge, jobs={job.id: job})
    assert (finding.outcome, finding.correction) == (ReconciliationOutcome.IN_PROGRESS, None)


@pytest.mark.parametrize(
    ("changes", "is_covered"),
    [
        ({}, True),
        # It may have been charged before the period, and was booked in it.
        ({"hour": 11}, False),
        ({"hour": None}, False),
        # The seller may charge it after the period.
        ({"posted_at": NOON + DAY_SECONDS}, True),
        ({"posted_at": NOON + DAY_SECONDS + 1}, False),
    ],
)
def test_order_counts_as_not_charged_only_if_it_can_be_on_no_other_invoice(
    changes: dict[str, float | None], is_covered: bool
) -> None:
    findings = compare([replace(SUSPECTED, **changes)])
    assert [finding.outcome for finding in findings] == [ReconciliationOutcome.SUSPECTED_NOT_CHARGED] * is_covered


@pytest.mark.parametrize("charged_at", [PERIOD.first_at - 1, PERIOD.last_at + 1])
def test_charge_outside_of_the_period_is_matched_and_otherwise_left(charged_at: float) -> None:
    charge = replace(CHARGE, charged_at=charged_at)
    (finding,) = compare([SUSPECTED], charge)
    assert finding.outcome is ReconciliationOutcome.SUSPECTED_CHARGED
    (finding,) = compare([], charge)
    assert (finding.outcome, finding.correction) == (ReconciliationOutcome.OUTSIDE_PERIOD, None)


def test_order_of_the_last_day_is_in_progress() -> None:
    """The ledger may have only a part of it yet."""
    charge = replace(CHARGE, amount=90_000)
    for posted_at, outcome in (
        (PERIOD.last_at, ReconciliationOutcome.PRICE_DIFFERS),
        (PERIOD.last_at + 1, ReconciliationOutcome.IN_PROGRESS),
    ):
        (finding,) = compare([replace(ENTRY, posted_at=posted_at)], charge)
        assert (finding.outcome, finding.correction is None) == (
            *(outcome,),
            outcome is ReconciliationOutcome.IN_PROGRESS,
        )


@pytest.mark.parametrize(
    ("charge", "entry"),
    [
        # A refund, whose charge is on another invoice.
        (replace(CHARGE, amount=-40_000), ENTRY),
        # A further charge of an order that may be on the invoice before.
        (replace(CHARGE, amount=10_000), replace(ENTRY, hour=11)),
        # The order's entries expire before those of the period do.
        (CHARGE, replace(SUSPECTED, day="2040-05-06")),
        # They have expired, and it is not known whether the refund was booked with them.
        (replace(CHARGE, amount=-40_000), None),
    ],
)
def test_part_of_what_an_order_cost_is_not_booked(charge: SellerCharge, entry: LedgerEntry | None) -> None:
    (finding,) = compare([entry] if entry else [], charge)
    assert (finding.outcome, finding.correction) == (ReconciliationOutcome.INVOICE_INCOMPLETE, None)


def test_second_charge_of_an_old_job_is_booked_in_the_period() -> None:
    """In the day of the job, the entry would expire before the charge is no longer compared."""
    second = replace(CHARGE, order_id="ticket-2")
    (finding,) = compare([replace(ENTRY, day="2040-05-06")], second)
    assert finding.correction is not None
    (entry,) = finding.correction.entries
    assert (entry.team, entry.job, entry.day, entry.hour) == ("acme", JOB_ID, DAY, 12)


def test_suspected_order_at_the_start_of_the_period_is_booked_as_charged() -> None:
    """Nothing was booked for it from an invoice before."""
    (finding,) = compare([replace(SUSPECTED, hour=11)], CHARGE)
    assert list_booked(finding) == [("suspected", -40_000, -1), ("orphan", 40_000, 1)]


def test_invoice_of_before_a_correction_books_nothing() -> None:
    refunded = replace(CHARGE, amount=0, last_charged_at=NOON + DAY_SECONDS)
    (finding,) = compare([ENTRY], refunded)
    assert list_booked(finding) == [("excess", -40_000, 0)]
    assert finding.correction is not None
    corrected = [ENTRY, *finding.correction.entries]
    assert [again.outcome for again in compare(corrected, refunded)] == [ReconciliationOutcome.MATCHED]
    (older,) = compare(corrected, CHARGE)
    assert (older.outcome, older.correction) == (ReconciliationOutcome.INVOICE_INCOMPLETE, None)


def test_charge_that_was_booked_before_its_order_ended_counts_once() -> None:
    """The invoice had no reference, so the charge had no order then."""
    charge = replace(CHARGE, reference="")
    (unknown,) = compare([], charge)
    assert unknown.correction is not None
    entries = [*unknown.correction.entries, ENTRY]
    (finding,) = compare(entries, charge)
    assert list_booked(finding) == [("excess", -40_000, 0)]
    assert finding.correction is not None
    (again,) = compare([*entries, *finding.correction.entries], charge)
    assert again.outcome is ReconciliationOutcome.MATCHED


def test_correction_has_another_id_once_the_ledger_has_changed() -> None:
    (first,), (second,) = compare([SUSPECTED]), compare([replace(SUSPECTED, amount=39_999)])
    (again,) = compare([SUSPECTED])
    assert first.correction is not None
    assert second.correction is not None
    assert first.correction == again.correction
    assert first.correction.id != second.correction.id


def make_order(number: int, **changes: object) -> LedgerEntry:
    return replace(ENTRY, job=f"job_07{number:026}", ticket=f"ticket-{number}", **changes)


def make_charge(number: int, **changes: object) -> SellerCharge:
    charge = replace(CHARGE, order_id=f"ticket-{number}", reference=f"job_07{number:026}-1")
    return replace(charge, **changes)


def list_outcomes(findings: list[OrderFinding]) -> list[str]:
    return sorted(finding.outcome.value for finding in findings)


def test_ids_of_transactions_are_replaced_by_references() -> None:
    """Each line has an id of its own, other than the ticket. Lines of one order are added up."""
    entries = [make_order(1), make_order(2)]
    charges = [make_charge(1, order_id="tx-1", amount=30_000), make_charge(1, order_id="tx-2", amount=10_000)]
    assert list_outcomes(compare(entries, *charges, make_charge(2, order_id="tx-3"))) == ["matched", "matched"]
    lost = replace(WITHOUT_TICKET, job=f"job_07{3:026}")
    (finding,) = [found for found in compare([lost], make_charge(3, order_id="tx-4")) if found.correction]
    assert finding.order_id == "tx-4", "without a ticket, the id may be one"


def test_refund_with_an_id_of_its_own_belongs_to_its_order() -> None:
    refund = make_charge(1, order_id="refund-1", amount=-10_000)
    (finding,) = compare([make_order(1)], make_charge(1), refund)
    assert (finding.outcome, list_booked(finding)) == (ReconciliationOutcome.PRICE_DIFFERS, [("excess", -10_000, 0)])
    second = make_charge(1, order_id="ticket-9")
    findings = compare([make_order(1)], make_charge(1), second, replace(refund, amount=-40_000))
    assert list_outcomes(findings) == ["matched"], "the second purchase is refunded, which the ledger does not have"
    findings = compare([make_order(1), make_order(2)], refund, make_charge(2))
    (alone,) = [finding for finding in findings if finding.order_id == "refund-1"]
    assert (alone.outcome, alone.correction) == (ReconciliationOutcome.INVOICE_INCOMPLETE, None)


@pytest.mark.parametrize(
    ("charges", "expected"),
    [
        ([], False),
        ([make_charge(1)], False),
        ([make_charge(2)], True),
        ([make_charge(1), make_charge(2)], False),
        ([make_charge(2), make_charge(3, amount=-40_000)], True),
        ([make_charge(1, amount=30_000, charged_at=NOON - 2 * DAY_SECONDS), make_charge(2)], False),
    ],
)
def test_invoice_of_unknown_orders_alone_has_no_match(charges: list[SellerCharge], expected: bool) -> None:
    assert has_no_match(compare([make_order(1)], *charges)) is expected


def test_orders_without_names_are_not_compared_with_charges_without_references() -> None:
    """Each would be missing there, and its charge missing here, also if other charges have references."""
    orders = group_orders([make_order(1, posted_at=NOON), replace(ENTRY, ticket="")])
    reconciliation = Reconciliation("runapi", orders, {}, PERIOD.last_at + DAY_SECONDS)
    with pytest.raises(InvalidInvoice, match="1 orders of runapi have no id of the seller"):
        reconciliation.require_comparable([make_charge(1), make_charge(2, reference="")], PERIOD)
    reconciliation.require_comparable([make_charge(1, reference=""), make_charge(2)], PERIOD)
    reconciliation.require_comparable([CHARGE, make_charge(2, reference="")], PERIOD)
    reconciliation.require_comparable([], PERIOD)
