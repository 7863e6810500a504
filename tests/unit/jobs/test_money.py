"""Money: set aside, taken, given back, and booked where and when it belongs."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.jobs.accepting import Acceptance, OrderCost, accept
from gateway.jobs.commit import BudgetMove, IdempotencyRecord, Limits
from gateway.jobs.facts import CancelAsked, JobExpired, OrderFailed, PicturesDelivered
from gateway.jobs.job import PartState, State
from gateway.jobs.tables import Line
from providers.faults import FaultKind
from tests.unit.jobs.living import CEILING, FENCE, PRICE, SECONDS, START, Life, acceptance, place

DAY, MONTH = "2026-11-21", "2026-11"


def test_the_hold_is_taken_in_the_day_and_the_month_within_their_limits() -> None:
    commit = accept(acceptance(n=2, limits=Limits(day=5, month=None)), START)
    assert commit.budget == (
        BudgetMove(window=DAY, hold=2 * CEILING, limit=5),
        BudgetMove(window=MONTH, hold=2 * CEILING),
    )
    other = accept(acceptance(n=2, limits=Limits(month=9)), START)
    assert [move.limit for move in other.budget] == [None, 9]


def test_limits_hold_back_new_jobs_only() -> None:
    life = Life(acceptance(limits=Limits(day=10_000_000, month=10_000_000)))
    life.tickets()
    assert {move.limit for move in life.delivers().budget} == {None}


def test_a_delivery_turns_its_hold_into_spend_image_by_image() -> None:
    life = Life(acceptance(n=3))
    life.opens(images=(0,))
    assert life.delivers((0,), cost=90_000).budget == (
        BudgetMove(window=DAY, hold=-CEILING, spend=90_000),
        BudgetMove(window=MONTH, hold=-CEILING, spend=90_000),
    )
    assert life.job.hold == 2 * CEILING


def test_what_fails_over_stays_on_hold() -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0, 1))
    assert life.fails(FaultKind.UNAVAILABLE).budget == ()
    assert life.job.hold == 2 * CEILING


def test_the_end_gives_back_what_was_not_taken() -> None:
    life = Life(acceptance(n=2))
    assert life.after(CancelAsked()).budget == (
        BudgetMove(window=DAY, hold=-2 * CEILING),
        BudgetMove(window=MONTH, hold=-2 * CEILING),
    )


def test_what_a_seller_bills_beyond_its_ceiling_is_not_the_teams_to_pay() -> None:
    life = Life()
    life.opens()
    commit = life.delivers(cost=10 * CEILING)
    assert (life.job.captured, life.job.hold) == (CEILING, 0)
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger] == [
        (Line.CAPTURE, CEILING, 1),
        (Line.EXCESS, 9 * CEILING, 1),
    ]


def test_what_was_set_aside_for_images_that_are_still_waited_for_pays_for_no_others() -> None:
    life = Life(acceptance(n=4))
    life.tickets(images=(0, 1, 2, 3))
    life.delivers((0, 1), made=2, cost=4 * CEILING)
    assert life.money() == {Line.CAPTURE: 2 * CEILING, Line.EXCESS: 2 * CEILING}
    assert life.job.hold == 2 * CEILING
    last = Life(acceptance(n=4, tries=1))
    last.tickets(images=(0, 1, 2, 3))
    last.delivers((0, 1), made=2, cost=4 * CEILING)
    assert last.money() == {Line.CAPTURE: 4 * CEILING}, "nothing is waited for any more"


def test_a_free_seller_needs_no_budget_and_is_still_booked() -> None:
    life = Life(acceptance(route=(place(price=0, ceiling=0),)))
    life.opens()
    commit = life.delivers()
    assert {move for one in life.commits for move in one.budget} == set()
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger] == [(Line.CAPTURE, 0, 1)]


@pytest.mark.parametrize(
    ("accepted", "day"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), "2026-11-30"),
        (datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), "2026-12-31"),
        (datetime(2028, 2, 29, 23, 59, 58, tzinfo=UTC), "2028-02-29"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12-01"),
    ],
)
def test_money_belongs_to_the_day_and_month_of_the_hold_whenever_it_is_settled(accepted: datetime, day: str) -> None:
    life = Life(acceptance(n=2), accepted.timestamp())
    life.tickets(images=(0, 1))
    life.after(PicturesDelivered(attempt=1, images=(0,), made=2, missing=FaultKind.EXPIRED), 3_000_000.0)
    assert life.ended() == (State.COMPLETED, True)
    assert [move.window for move in life.commits[-1].budget] == [day, day[:7]]
    assert {entry.day for entry in life.commits[-1].ledger} == {day}
    assert dict(life.books.holds) == {day: 0, day[:7]: 0}
    assert dict(life.books.spends) == {day: PRICE, day[:7]: PRICE}


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo"])
def test_days_are_those_of_utc_wherever_the_process_runs(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        late = datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp()
        assert [move.window for move in accept(acceptance(), late).budget] == ["2026-11-30", "2026-11"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_orphan_that_comes_to_light_the_next_day_is_booked_on_the_holds_day_at_its_own_time() -> None:
    life = Life()
    life.tickets()
    life.after(JobExpired(fence=FENCE), SECONDS)
    life.readies(100_000.0)
    (entry,) = life.commits[-1].ledger
    assert (entry.day, entry.at, entry.line, entry.amount) == (DAY, START + 100_000.0, Line.ORPHAN, PRICE)


def test_what_the_seller_reports_outranks_the_price() -> None:
    life = Life()
    life.tickets()
    life.readies(cost=123_457)
    life.delivers()
    assert life.money() == {Line.CAPTURE: 123_457}


def test_the_last_report_counts() -> None:
    life = Life()
    life.tickets()
    life.readies(cost=123_457)
    life.delivers(cost=120_000)
    assert life.money() == {Line.CAPTURE: 120_000}


def test_a_delivery_that_cost_nothing_is_captured_at_nothing() -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0, 1))
    commit = life.delivers((0, 1), cost=0)
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger] == [(Line.CAPTURE, 0, 2)]


def test_pictures_that_were_made_and_are_missing_are_an_orphan() -> None:
    life = Life(acceptance(n=4, tries=1))
    life.tickets(images=(0, 1, 2, 3))
    commit = life.delivers((0, 1, 3))
    assert [(entry.line, entry.amount, entry.images) for entry in commit.ledger] == [
        (Line.CAPTURE, 3 * PRICE, 3),
        (Line.ORPHAN, PRICE, 1),
    ]


def test_pictures_that_were_not_made_cost_nothing() -> None:
    life = Life(acceptance(n=4, tries=1))
    life.tickets(images=(0, 1, 2, 3))
    life.delivers((0, 1, 3), made=3)
    assert life.money() == {Line.CAPTURE: 3 * PRICE}


def test_pictures_beyond_those_ordered_are_not_the_teams() -> None:
    life = Life()
    life.tickets()
    life.delivers((0,), made=3)
    assert life.money() == {Line.CAPTURE: PRICE, Line.ORPHAN: 2 * PRICE}


@pytest.mark.parametrize("made", [-5, 0, 1])
def test_what_lies_in_our_store_was_made_whatever_is_said(made: int) -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0, 1))
    life.delivers((0, 1), made=made)
    assert life.money() == {Line.CAPTURE: 2 * PRICE}


@given(
    n=st.integers(1, 10),
    there=st.integers(0, 10),
    made=st.none() | st.integers(-3, 40),
    cost=st.none() | st.integers(-5, 10**13),
)
@example(n=1, there=1, made=None, cost=-5)
@example(n=3, there=2, made=None, cost=100_000)
def test_no_split_of_a_cost_loses_a_millionth(n: int, there: int, made: int | None, cost: int | None) -> None:
    life = Life(acceptance(n=n, tries=1))
    life.tickets(images=tuple(range(n)))
    life.delivers(tuple(range(min(there, n))), made=made, cost=cost)
    delivered, pictures = min(there, n), max(n if made is None else made, min(there, n))
    total = PRICE * pictures if cost is None else max(cost, 0)
    due = total * delivered // pictures if pictures else 0
    assert sum(life.money().values()) == total
    assert life.money().get(Line.CAPTURE, 0) == min(due, n * CEILING)
    assert life.money().get(Line.EXCESS, 0) == max(0, due - n * CEILING)


def test_a_correction_is_another_entry_with_the_amount_reversed() -> None:
    life = Life(acceptance(n=2, tries=1))
    life.tickets(images=(0, 1))
    first = life.fails(FaultKind.LOST).ledger
    second = life.after(OrderFailed(attempt=1, kind=FaultKind.EMPTY, cost=170_000), 50.0).ledger
    assert [(entry.line, entry.amount, entry.images) for entry in (*first, *second)] == [
        (Line.SUSPECTED, 2 * PRICE, 2),
        (Line.ORPHAN, 170_000, 2),
        (Line.SUSPECTED, -2 * PRICE, -2),
    ]


def test_each_order_is_booked_to_whoever_it_was_bought_from() -> None:
    life = Life(acceptance(n=2))
    life.opens(2, (0, 1))
    life.fails(FaultKind.EMPTY)
    life.opens(1, (0, 1))
    life.delivers((0, 1))
    entries = [entry for commit in life.commits for entry in commit.ledger]
    assert [(entry.seller, entry.line) for entry in entries] == [
        ("openai", Line.ORPHAN),
        ("runflow-runs", Line.CAPTURE),
    ]


def test_a_request_may_bring_its_idempotency_and_documents() -> None:
    record = IdempotencyRecord(key="k", fingerprint="f", soft=True)
    commit = accept(acceptance(idempotency=record, documents={"request": b"{}"}), START)
    assert (commit.idempotency, dict(commit.documents), commit.job.soft_key) == (record, {"request": b"{}"}, "k")
    hard = accept(acceptance(idempotency=IdempotencyRecord(key="k", fingerprint="f")), START)
    assert hard.job.soft_key is None


def test_a_soft_key_lingers_once_when_the_job_ends() -> None:
    life = Life(acceptance(idempotency=IdempotencyRecord(key="k", fingerprint="f", soft=True)))
    life.tickets()
    life.after(JobExpired(fence=FENCE), SECONDS)
    life.readies(1_000.0)
    assert [commit.linger for commit in life.commits] == [None, None, None, 120.0, None]


# --- sellers that bill by tokens: what goes into an order comes on top, once for each

INPUT, MOST_INPUT = 30_000, 80_000
COST, NO_COST = OrderCost(INPUT, MOST_INPUT), OrderCost(0, 0)


def by_tokens(n: int, images: int = 4, places: int = 1, **more: Any) -> Acceptance:
    return acceptance(n=n, route=(place(images=images),) * places, order_costs=(COST,) * places, **more)


@pytest.mark.parametrize(("n", "orders"), [(1, 1), (4, 1), (5, 2), (8, 2), (10, 3)])
def test_what_goes_in_is_set_aside_for_every_order(n: int, orders: int) -> None:
    assert accept(by_tokens(n), START).job.hold == n * CEILING + orders * MOST_INPUT


def test_the_seller_that_takes_fewest_at_once_says_how_many_orders_there_may_be() -> None:
    route = (place("runapi", images=1, ceiling=1), place(images=10))
    life = Life(acceptance(n=3, route=route, order_costs=(NO_COST, COST)))
    assert life.job.hold == 3 * (CEILING + MOST_INPUT)
    for image in range(3):
        life.opens(0, (image,))
        life.fails(FaultKind.UNAVAILABLE)
    for image in range(3):
        life.opens(1, (image,))
        life.delivers((image,), cost=CEILING + MOST_INPUT)
    assert life.money() == {Line.CAPTURE: 3 * (CEILING + MOST_INPUT)}


def test_an_order_that_nobody_knows_the_cost_of_is_booked_with_what_went_in() -> None:
    for happens, line in ((FaultKind.EMPTY, Line.ORPHAN), (FaultKind.LOST, Line.SUSPECTED)):
        life = Life(by_tokens(2, tries=1))
        life.opens(images=(0, 1))
        life.fails(happens)
        assert life.money() == {line: 2 * PRICE + INPUT}
    life = Life(by_tokens(2))
    life.opens(images=(0, 1))
    life.delivers((0, 1))
    assert life.money() == {Line.CAPTURE: 2 * PRICE + INPUT}


@given(
    n=st.integers(1, 10),
    size=st.integers(1, 10),
    shares=st.lists(st.floats(0, 1), min_size=10, max_size=10),
    made=st.lists(st.floats(0, 1), min_size=10, max_size=10),
)
def test_whatever_the_seller_counts_within_the_estimate_the_team_pays_it_and_no_more_than_was_set_aside(
    n: int, size: int, shares: list[float], made: list[float]
) -> None:
    """Some orders are made in part only, and the rest is ordered again. That the budget is never used more is held
    against every step by the invariants."""
    life = Life(by_tokens(n, images=size, places=3))
    accepted, billed, is_whole = life.job.hold, 0, True
    for share, some in zip(shares, made, strict=True):
        part = next((one for one in life.job.parts if one.state is PartState.WAITING), None)
        where = next((number for number in range(3) if part and number not in part.tried), None)
        if part is None or where is None:
            break
        images = part.images[:size]
        life.opens(where, images)
        there = images[: round(some * len(images))] if some < 0.5 else images
        cost = round(share * (len(there) * CEILING + MOST_INPUT)) if there else 0
        is_whole = is_whole and there == images
        life.delivers(there, made=len(there), cost=cost)
        billed += cost
    money = life.money()
    assert life.job.captured <= accepted
    assert sum(money.values()) == billed
    assert not is_whole or money.get(Line.CAPTURE, 0) == billed, "an order that brought all images is the team's to pay"
