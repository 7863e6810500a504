"""The till: who is charged, when, exactly once."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import charges
from sandbox import shop as shop_module
from sandbox.charges import Invoice
from sandbox.mischief import Kind, Rule, Vendor
from sandbox.pictures import Picture
from sandbox.shop import ClientLeftError, Latency, Order, Outcome, OutOfCreditError, Phase, Shop

PICTURE = Picture(64, 64, "png", "a lighthouse")


class Clock:
    """Stands in for the shop's `time`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shop_module, "time", clock)
    return clock


def open_shop(balance: int = 1_000, slots: int = 10, seconds: float = 10) -> Shop:
    shop = Shop(Vendor.RUNFLOW, Invoice(), balance, slots)
    shop.latency = {"*": Latency(seconds, 0)}
    return shop


def order(name: str = "a", price: int = 100, pictures: int = 1, **options: Any) -> Order:
    return Order(id=name, price=price, pictures=(PICTURE,) * pictures, **options)


def spoilt(kind: Kind, **options: Any) -> dict[Kind, Rule]:
    return {kind: Rule(kind=kind, **options)}


def invoiced(shop: Shop) -> list[tuple[str, int]]:
    shop.settle()
    return [(line.id, line.micros) for line in shop.invoice.lines]


def test_an_order_is_charged_once_when_it_ends_and_not_before(clock):
    shop = open_shop()
    shop.place(order())
    assert invoiced(shop) == []
    clock.now += 10
    assert [invoiced(shop), invoiced(shop)] == [[("a", 100)]] * 2
    assert (shop.balance.left, shop.balance.reserved, shop.balance.spent) == (900, 0, 100)


def test_the_invoice_line_says_when_the_work_ended(clock):
    shop = open_shop()
    shop.place(order(idempotency_key="k", client_ref="r"))
    clock.now += 500
    shop.settle()
    (line,) = shop.invoice.lines
    assert (line.at, line.idempotency_key, line.client_ref, line.images) == (1_010.0, "k", "r", 1)


def test_money_is_set_aside_while_orders_are_worked_on(clock):
    shop = open_shop(balance=150)
    shop.place(order("a"))
    with pytest.raises(OutOfCreditError):
        shop.place(order("b"))
    assert (shop.balance.left, shop.balance.reserved) == (150, 100)
    assert "b" not in shop.orders


def test_a_failed_order_gives_its_money_back(clock):
    shop = open_shop(balance=100)
    failed = shop.place(order(mischief=spoilt(Kind.FAIL, code="OOPS", message="No.")))
    clock.now += 10
    assert invoiced(shop) == []
    assert (failed.outcome, failed.reason) == (Outcome.FAILED, ("OOPS", "No."))
    assert shop.balance.covers(100)


def test_orders_beyond_the_slots_queue_in_turn(clock):
    shop = open_shop(slots=2)
    orders = [shop.place(order(name)) for name in "abcde"]
    assert [one.starts for one in orders] == [1_000, 1_000, 1_010, 1_010, 1_020]
    assert [one.phase(clock.now) for one in orders[:3]] == [Phase.DISPATCHING, Phase.DISPATCHING, Phase.QUEUED]
    clock.now = 1_010
    assert [name for name, _ in invoiced(shop)] == ["a", "b"]
    clock.now = 1_015
    assert orders[2].phase(clock.now) is Phase.RUNNING


def test_fewer_slots_make_new_orders_wait_for_those_that_run(clock):
    shop = open_shop(slots=3)
    for name in "abc":
        shop.place(order(name))
        clock.now += 1
    shop.resize(1)
    assert shop.place(order("d")).starts == 1_012
    shop.resize(2)
    assert shop.place(order("e")).starts == 1_003


def test_cancelling_work_that_has_begun_is_billed(clock):
    shop = open_shop()
    begun = shop.place(order())
    clock.now += 1
    shop.cancel(begun)
    assert (begun.outcome, begun.phase(clock.now)) == (Outcome.CANCELLED, Phase.OVER)
    clock.now += 100
    assert invoiced(shop) == [("a", 100)]
    assert shop.balance.reserved == 0


def test_cancelling_an_order_in_the_queue_is_free(clock):
    shop = open_shop(slots=1)
    shop.place(order("a"))
    queued = shop.place(order("b"))
    shop.cancel(queued)
    clock.now += 100
    assert invoiced(shop) == [("a", 100)]


def test_cancelling_an_order_that_is_over_changes_nothing(clock):
    shop = open_shop()
    done = shop.place(order())
    clock.now += 10
    shop.cancel(done)
    assert done.outcome is Outcome.SUCCEEDED
    assert invoiced(shop) == [("a", 100)]


def test_missing_pictures_are_not_charged_but_the_base_is(clock):
    shop = open_shop()
    partly = shop.place(order(price=310, base=10, pictures=3, mischief=spoilt(Kind.PARTIAL, missing=2)))
    clock.now += 10
    assert invoiced(shop) == [("a", 110)]
    assert (partly.outcome, len(partly.pictures)) == (Outcome.PARTIAL, 1)
    assert (shop.balance.left, shop.balance.reserved) == (890, 0)


def test_an_order_of_which_nothing_is_made_has_failed(clock):
    shop = open_shop()
    nothing = shop.place(order(pictures=2, mischief=spoilt(Kind.PARTIAL, missing=5)))
    clock.now += 10
    assert nothing.outcome is Outcome.FAILED
    assert invoiced(shop) == []


def test_a_downgraded_order_costs_the_full_price(clock):
    shop = open_shop()
    small = shop.place(order(mischief=spoilt(Kind.DOWNGRADE)))
    clock.now += 10
    assert (small.pictures[0].width, small.pictures[0].height) == (32, 32)
    assert invoiced(shop) == [("a", 100)]


def test_a_stuck_order_never_ends_and_takes_no_slot(clock):
    shop = open_shop(slots=1)
    stuck = shop.place(order("a", mischief=spoilt(Kind.STUCK)))
    assert math.isinf(stuck.ends)
    assert shop.place(order("b")).starts == clock.now
    clock.now += 1e9
    assert invoiced(shop) == [("b", 100)]


def test_no_order_takes_less_than_a_third_of_the_median(clock):
    shop = open_shop()
    shop.latency = {"*": Latency(9, 100)}
    orders = [shop.place(order(str(number), price=0)) for number in range(200)]
    assert min(one.ends - one.starts for one in orders) == pytest.approx(3)


def test_old_orders_are_forgotten_and_still_charged(clock, monkeypatch):
    monkeypatch.setattr(shop_module, "KEPT_ORDERS", 3)
    shop = open_shop()
    for number in range(5):
        shop.place(order(str(number), price=1))
    assert list(shop.orders) == ["2", "3", "4"]
    clock.now += 10
    assert len(invoiced(shop)) == 5


def test_the_oldest_charges_are_forgotten_and_counted(clock, monkeypatch):
    monkeypatch.setattr(charges, "KEPT_CHARGES", 10)
    shop = open_shop(seconds=0)
    for number in range(25):
        shop.place(order(str(number), price=1))
    lines = invoiced(shop)
    assert lines[-1] == ("24", 1)
    assert 9 <= len(lines) <= 10
    assert len(lines) + shop.invoice.forgotten == 25


def test_whoever_has_waited_has_been_charged(monkeypatch):
    """Even where a timer ends too early, as by a hair every timer may."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(seconds / 2))
    shop = open_shop(seconds=0.05)
    placed = shop.place(order())
    asyncio.run(shop.wait(placed))
    assert placed.settled


def test_a_stuck_order_is_waited_for_as_long_as_the_client_does():
    messages = [{"type": "http.request", "body": b"late"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    shop = open_shop()
    stuck = shop.place(order(mischief=spoilt(Kind.STUCK)))
    with pytest.raises(ClientLeftError):
        asyncio.run(shop.wait(stuck, receive))
    assert messages == []


MISCHIEF = st.sampled_from([None, Kind.FAIL, Kind.PARTIAL, Kind.STUCK, Kind.DOWNGRADE, Kind.EARLY_CALLBACK])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, 400), MISCHIEF),
        st.tuples(st.just("cancel"), st.integers(0, 20), st.none()),
        st.tuples(st.just("pass"), st.integers(0, 12), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_the_books_always_add_up(steps):
    clock, placed = Clock(), []
    before, shop_module.time = shop_module.time, SimpleNamespace(time=clock.time)  # type: ignore[assignment]
    try:
        shop = open_shop(slots=2)
        for step, number, kind in steps:
            if step == "pass":
                clock.now += number
            elif step == "cancel" and placed:
                shop.cancel(placed[number % len(placed)])
            elif step == "place":
                one = order(str(len(placed)), price=number, pictures=3, mischief=spoilt(kind) if kind else {})
                try:
                    placed.append(shop.place(one))
                except OutOfCreditError:
                    continue
            shop.settle()
            charged = sum(line.micros for line in shop.invoice.lines)
            assert shop.balance.spent == charged == 1_000 - shop.balance.left
            assert shop.balance.reserved == sum(one.price for one in placed if not one.settled)
            assert shop.balance.left >= shop.balance.reserved >= 0
            assert len({line.id for line in shop.invoice.lines}) == len(shop.invoice.lines)
    finally:
        shop_module.time = before
