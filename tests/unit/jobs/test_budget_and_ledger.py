"""Amounts are held, captured, released and booked on the right day and line."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.jobs.budgets import BudgetChange, BudgetLimit, BudgetLimits, KeyBudget, WindowKind, get_window, make_owner
from gateway.jobs.commit import IdempotencyRecord
from gateway.jobs.first_commit import NewJob, OrderCost, build_first_commit
from gateway.jobs.job import JobState, PartState
from gateway.jobs.job_update_types import CancelRequested, ImagesStored, JobExpired, OrderFailed
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import (
    CEILING,
    DEADLINE_SECONDS,
    FENCE,
    PRICE,
    START,
    JobScenario,
    make_new_job,
    make_route_entry,
)

TEAM = make_new_job().team
DAY, MONTH = "2026-11-21", "2026-11"


def test_hold_is_taken_from_day_and_month_within_limits() -> None:
    commit = build_first_commit(make_new_job(n=2, budget_limits=BudgetLimits(day=5, week=7)), START)
    assert commit.budget_changes == (
        BudgetChange(owner=TEAM, window=DAY, hold=2 * CEILING),
        BudgetChange(owner=TEAM, window=MONTH, hold=2 * CEILING),
    )
    assert commit.budget_limits == (
        BudgetLimit(TEAM, get_window(WindowKind.WEEK, START), 7),
        BudgetLimit(TEAM, get_window(WindowKind.DAY, START), 5),
    )


def test_job_of_a_limited_key_is_held_and_booked_for_its_key_as_well() -> None:
    key_budget = KeyBudget("k1", BudgetLimits(month=9))
    scenario = JobScenario(make_new_job(key_budget=key_budget, budget_limits=BudgetLimits(day=5)))
    key = make_owner(TEAM, "k1")
    assert scenario.commits[0].budget_limits == (
        BudgetLimit(key, get_window(WindowKind.MONTH, START), 9),
        BudgetLimit(TEAM, get_window(WindowKind.DAY, START), 5),
    )
    scenario.start_attempt()
    commit = scenario.store_images(cost=90_000)
    assert [(change.owner, change.window) for change in commit.budget_changes] == [
        (owner, window) for owner in (TEAM, key) for window in (DAY, MONTH)
    ]
    assert [entry.budget_key for entry in commit.ledger_entries] == ["k1"]


def test_limits_apply_to_new_jobs_only() -> None:
    scenario = JobScenario(make_new_job(budget_limits=BudgetLimits(day=10_000_000, month=10_000_000)))
    scenario.receive_ticket()
    assert scenario.store_images().budget_limits == ()


def test_delivery_turns_hold_into_spend_per_image() -> None:
    scenario = JobScenario(make_new_job(n=3))
    scenario.start_attempt(images=(0,))
    assert scenario.store_images((0,), cost=90_000).budget_changes == (
        BudgetChange(owner=TEAM, window=DAY, hold=-CEILING, spend=90_000),
        BudgetChange(owner=TEAM, window=MONTH, hold=-CEILING, spend=90_000),
    )
    assert scenario.job.hold == 2 * CEILING


def test_failover_keeps_hold() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0, 1))
    assert scenario.fail_order(FaultKind.UNAVAILABLE).budget_changes == ()
    assert scenario.job.hold == 2 * CEILING


def test_end_of_job_releases_remaining_hold() -> None:
    scenario = JobScenario(make_new_job(n=2))
    assert scenario.apply(CancelRequested()).budget_changes == (
        BudgetChange(owner=TEAM, window=DAY, hold=-2 * CEILING),
        BudgetChange(owner=TEAM, window=MONTH, hold=-2 * CEILING),
    )


def test_cost_above_ceiling_is_booked_as_excess() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    commit = scenario.store_images(cost=10 * CEILING)
    assert (scenario.job.captured_amount, scenario.job.hold) == (CEILING, 0)
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger_entries] == [
        (LedgerLine.CAPTURE, CEILING, 1),
        (LedgerLine.EXCESS, 9 * CEILING, 1),
    ]


def test_hold_of_waiting_images_does_not_pay_for_others() -> None:
    scenario = JobScenario(make_new_job(n=4))
    scenario.receive_ticket(images=(0, 1, 2, 3))
    scenario.store_images((0, 1), made_count=2, cost=4 * CEILING)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 2 * CEILING, LedgerLine.EXCESS: 2 * CEILING}
    assert scenario.job.hold == 2 * CEILING
    last_scenario = JobScenario(make_new_job(n=4, max_attempts=1))
    last_scenario.receive_ticket(images=(0, 1, 2, 3))
    last_scenario.store_images((0, 1), made_count=2, cost=4 * CEILING)
    assert last_scenario.sum_ledger() == {LedgerLine.CAPTURE: 4 * CEILING}, "nothing is waited for any more"


def test_free_seller_changes_no_budget_but_is_booked() -> None:
    scenario = JobScenario(make_new_job(route=(make_route_entry(price=0, ceiling=0),)))
    scenario.start_attempt()
    commit = scenario.store_images()
    assert {change for attempt in scenario.commits for change in attempt.budget_changes} == set()
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger_entries] == [(LedgerLine.CAPTURE, 0, 1)]


@pytest.mark.parametrize(
    ("created_at", "day"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), "2026-11-30"),
        (datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), "2026-12-31"),
        (datetime(2028, 2, 29, 23, 59, 58, tzinfo=UTC), "2028-02-29"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12-01"),
    ],
)
def test_money_is_booked_on_day_and_month_of_hold(created_at: datetime, day: str) -> None:
    scenario = JobScenario(make_new_job(n=2), created_at.timestamp())
    scenario.receive_ticket(images=(0, 1))
    scenario.apply(
        ImagesStored(attempt=1, images=(0,), made_count=2, missing_fault=FaultKind.IMAGES_EXPIRED), 3_000_000.0
    )
    assert scenario.get_outcome() == (JobState.COMPLETED, True)
    assert [change.window for change in scenario.commits[-1].budget_changes] == [day, day[:7]]
    assert {entry.day for entry in scenario.commits[-1].ledger_entries} == {day}
    assert dict(scenario.totals.holds) == {(TEAM, day): 0, (TEAM, day[:7]): 0}
    assert dict(scenario.totals.spends) == {(TEAM, day): PRICE, (TEAM, day[:7]): PRICE}


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo"])
def test_days_are_utc_in_any_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        late = datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp()
        assert [change.window for change in build_first_commit(make_new_job(), late).budget_changes] == [
            "2026-11-30",
            "2026-11",
        ]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_late_orphan_is_booked_on_day_of_hold_at_its_own_time() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    scenario.report_images_ready(100_000.0)
    (entry,) = scenario.commits[-1].ledger_entries
    assert (entry.day, entry.posted_at, entry.line, entry.amount) == (DAY, START + 100_000.0, LedgerLine.ORPHAN, PRICE)


def test_reported_cost_outranks_price() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.report_images_ready(cost=123_457)
    scenario.store_images()
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 123_457}


def test_last_reported_cost_counts() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.report_images_ready(cost=123_457)
    scenario.store_images(cost=120_000)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 120_000}


def test_free_delivery_is_captured_at_zero() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0, 1))
    commit = scenario.store_images((0, 1), cost=0)
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger_entries] == [(LedgerLine.CAPTURE, 0, 2)]


def test_made_but_missing_images_are_orphan() -> None:
    scenario = JobScenario(make_new_job(n=4, max_attempts=1))
    scenario.receive_ticket(images=(0, 1, 2, 3))
    commit = scenario.store_images((0, 1, 3))
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger_entries] == [
        (LedgerLine.CAPTURE, 3 * PRICE, 3),
        (LedgerLine.ORPHAN, PRICE, 1),
    ]


def test_images_not_made_cost_nothing() -> None:
    scenario = JobScenario(make_new_job(n=4, max_attempts=1))
    scenario.receive_ticket(images=(0, 1, 2, 3))
    scenario.store_images((0, 1, 3), made_count=3)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 3 * PRICE}


def test_extra_images_are_orphan() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.store_images((0,), made_count=3)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: PRICE, LedgerLine.ORPHAN: 2 * PRICE}


@pytest.mark.parametrize("made", [-5, 0, 1])
def test_stored_images_count_as_made(made: int) -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0, 1))
    scenario.store_images((0, 1), made_count=made)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 2 * PRICE}


@given(
    n=st.integers(1, 10),
    stored_count=st.integers(0, 10),
    made=st.none() | st.integers(-3, 40),
    cost=st.none() | st.integers(-5, 10**13),
)
@example(n=1, stored_count=1, made=None, cost=-5)
@example(n=3, stored_count=2, made=None, cost=100_000)
def test_splitting_cost_loses_no_micro_dollar(n: int, stored_count: int, made: int | None, cost: int | None) -> None:
    scenario = JobScenario(make_new_job(n=n, max_attempts=1))
    scenario.receive_ticket(images=tuple(range(n)))
    scenario.store_images(tuple(range(min(stored_count, n))), made_count=made, cost=cost)
    delivered_count, made_count = min(stored_count, n), max(n if made is None else made, min(stored_count, n))
    total = PRICE * made_count if cost is None else max(cost, 0)
    due = total * delivered_count // made_count if made_count else 0
    assert sum(scenario.sum_ledger().values()) == total
    assert scenario.sum_ledger().get(LedgerLine.CAPTURE, 0) == min(due, n * CEILING)
    assert scenario.sum_ledger().get(LedgerLine.EXCESS, 0) == max(0, due - n * CEILING)


def test_correction_is_new_entry_with_reversed_amount() -> None:
    scenario = JobScenario(make_new_job(n=2, max_attempts=1))
    scenario.receive_ticket(images=(0, 1))
    first = scenario.fail_order(FaultKind.RESPONSE_LOST).ledger_entries
    second = scenario.apply(OrderFailed(attempt=1, fault=FaultKind.NO_IMAGES, cost=170_000), 50.0).ledger_entries
    assert [(entry.line, entry.amount, entry.images) for entry in (*first, *second)] == [
        (LedgerLine.SUSPECTED, 2 * PRICE, 2),
        (LedgerLine.ORPHAN, 170_000, 2),
        (LedgerLine.SUSPECTED, -2 * PRICE, -2),
    ]


def test_each_order_is_booked_to_its_seller() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(2, (0, 1))
    scenario.fail_order(FaultKind.NO_IMAGES)
    scenario.start_attempt(1, (0, 1))
    scenario.store_images((0, 1))
    entries = [entry for commit in scenario.commits for entry in commit.ledger_entries]
    assert [(entry.seller, entry.line) for entry in entries] == [
        ("openai", LedgerLine.ORPHAN),
        ("runflow-runs", LedgerLine.CAPTURE),
    ]


def test_new_job_carries_idempotency_record_and_documents() -> None:
    record = IdempotencyRecord(key="k", fingerprint="f", is_body_key=True)
    commit = build_first_commit(make_new_job(idempotency=record, documents={"request": b"{}"}), START)
    assert (commit.idempotency, dict(commit.documents), commit.job.body_key) == (record, {"request": b"{}"}, "k")
    client_key_commit = build_first_commit(make_new_job(idempotency=IdempotencyRecord(key="k", fingerprint="f")), START)
    assert client_key_commit.job.body_key is None


def test_body_key_gets_ttl_once_when_job_ends() -> None:
    scenario = JobScenario(make_new_job(idempotency=IdempotencyRecord(key="k", fingerprint="f", is_body_key=True)))
    scenario.receive_ticket()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    scenario.report_images_ready(1_000.0)
    assert [commit.idempotency_ttl for commit in scenario.commits] == [None, None, None, 120.0, None]


# --- sellers that bill by tokens: each order also costs its input

INPUT_COST, MAX_INPUT_COST = 30_000, 80_000
ORDER_COST, NO_ORDER_COST = OrderCost(INPUT_COST, MAX_INPUT_COST), OrderCost(0, 0)


def make_token_priced_job(n: int, max_images: int = 4, entry_count: int = 1, **changes: Any) -> NewJob:
    return make_new_job(
        n=n,
        route=(make_route_entry(max_images=max_images),) * entry_count,
        order_costs=(ORDER_COST,) * entry_count,
        **changes,
    )


@pytest.mark.parametrize(("n", "orders"), [(1, 1), (4, 1), (5, 2), (8, 2), (10, 3)])
def test_input_tokens_are_held_once_per_order(n: int, orders: int) -> None:
    assert build_first_commit(make_token_priced_job(n), START).job.hold == n * CEILING + orders * MAX_INPUT_COST


def test_smallest_order_size_determines_held_order_count() -> None:
    route = (make_route_entry("runapi", max_images=1, ceiling=1), make_route_entry(max_images=10))
    scenario = JobScenario(make_new_job(n=3, route=route, order_costs=(NO_ORDER_COST, ORDER_COST)))
    assert scenario.job.hold == 3 * (CEILING + MAX_INPUT_COST)
    for image in range(3):
        scenario.start_attempt(0, (image,))
        scenario.fail_order(FaultKind.UNAVAILABLE)
    for image in range(3):
        scenario.start_attempt(1, (image,))
        scenario.store_images((image,), cost=CEILING + MAX_INPUT_COST)
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 3 * (CEILING + MAX_INPUT_COST)}


def test_order_with_unknown_cost_is_booked_with_input_tokens() -> None:
    for fault, line in ((FaultKind.NO_IMAGES, LedgerLine.ORPHAN), (FaultKind.RESPONSE_LOST, LedgerLine.SUSPECTED)):
        scenario = JobScenario(make_token_priced_job(2, max_attempts=1))
        scenario.start_attempt(images=(0, 1))
        scenario.fail_order(fault)
        assert scenario.sum_ledger() == {line: 2 * PRICE + INPUT_COST}
    scenario = JobScenario(make_token_priced_job(2))
    scenario.start_attempt(images=(0, 1))
    scenario.store_images((0, 1))
    assert scenario.sum_ledger() == {LedgerLine.CAPTURE: 2 * PRICE + INPUT_COST}


@given(
    n=st.integers(1, 10),
    size=st.integers(1, 10),
    shares=st.lists(st.floats(0, 1), min_size=10, max_size=10),
    made=st.lists(st.floats(0, 1), min_size=10, max_size=10),
)
def test_captured_cost_within_estimate_never_exceeds_hold(
    n: int, size: int, shares: list[float], made: list[float]
) -> None:
    """Some orders deliver a part of their images, and the rest is ordered again. The invariants check the budget after
    every step."""
    scenario = JobScenario(make_token_priced_job(n, max_images=size, entry_count=3))
    initial_hold, billed, is_complete = scenario.job.hold, 0, True
    for share, made_share in zip(shares, made, strict=True):
        part = next((candidate for candidate in scenario.job.parts if candidate.state is PartState.WAITING), None)
        route_index = next((number for number in range(3) if part and number not in part.tried_indexes), None)
        if part is None or route_index is None:
            break
        images = part.images[:size]
        scenario.start_attempt(route_index, images)
        stored_images = images[: round(made_share * len(images))] if made_share < 0.5 else images
        cost = round(share * (len(stored_images) * CEILING + MAX_INPUT_COST)) if stored_images else 0
        is_complete = is_complete and stored_images == images
        scenario.store_images(stored_images, made_count=len(stored_images), cost=cost)
        billed += cost
    ledger = scenario.sum_ledger()
    assert scenario.job.captured_amount <= initial_hold
    assert sum(ledger.values()) == billed
    assert not is_complete or ledger.get(LedgerLine.CAPTURE, 0) == billed, (
        "an order that brought all images is the team's to pay"
    )
