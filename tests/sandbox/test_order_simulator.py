"""The order simulator: which orders are charged, when, exactly once."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import charges, order_simulator
from sandbox.charges import Invoice
from sandbox.delays import Delay, Delays
from sandbox.fault_injection import FaultRule, InjectedFault
from sandbox.image_renderer import ImageRecipe
from sandbox.order_simulator import (
    ClientDisconnectedError,
    InsufficientCreditError,
    Latency,
    OrderSimulator,
    Phase,
    SimulatedOrder,
    SimulatedOutcome,
)
from sandbox.vendors import Vendor

RECIPE = ImageRecipe(64, 64, "png", "a lighthouse")


class FakeTime:
    """Replaces the simulator's `time` module."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(order_simulator, "time", clock)
    return clock


def make_simulator(balance: int = 1_000, concurrency: int = 10, latency_seconds: float = 10) -> OrderSimulator:
    simulator = OrderSimulator(Vendor.RUNFLOW, Invoice(), balance, concurrency)
    simulator.latency = {"*": Latency(latency_seconds, 0)}
    return simulator


def build_order(order_id: str = "a", price: int = 100, image_count: int = 1, **options: Any) -> SimulatedOrder:
    return SimulatedOrder(id=order_id, price_micros=price, images=(RECIPE,) * image_count, **options)


def make_fault_rules(kind: InjectedFault, **options: Any) -> dict[InjectedFault, FaultRule]:
    return {kind: FaultRule(kind=kind, **options)}


def list_charges(simulator: OrderSimulator) -> list[tuple[str, int]]:
    simulator.settle_finished()
    return [(charge.id, charge.micros) for charge in simulator.invoice.charges]


def test_order_is_charged_once_when_it_ends(clock):
    simulator = make_simulator()
    simulator.place_order(build_order())
    assert list_charges(simulator) == []
    clock.now += 10
    assert [list_charges(simulator), list_charges(simulator)] == [[("a", 100)]] * 2
    assert (simulator.balance.remaining, simulator.balance.reserved, simulator.balance.spent) == (900, 0, 100)


def test_charge_has_the_time_when_the_order_ended(clock):
    simulator = make_simulator()
    simulator.place_order(build_order(idempotency_key="k", client_ref="r"))
    clock.now += 500
    simulator.settle_finished()
    (charge,) = simulator.invoice.charges
    assert (charge.charged_at, charge.idempotency_key, charge.client_ref, charge.images) == (1_010.0, "k", "r", 1)


def test_money_is_reserved_while_orders_run(clock):
    simulator = make_simulator(balance=150)
    simulator.place_order(build_order("a"))
    with pytest.raises(InsufficientCreditError):
        simulator.place_order(build_order("b"))
    assert (simulator.balance.remaining, simulator.balance.reserved) == (150, 100)
    assert "b" not in simulator.orders


def test_failed_order_releases_its_money(clock):
    simulator = make_simulator(balance=100)
    failed = simulator.place_order(
        build_order(fault_rules=make_fault_rules(InjectedFault.FAIL, code="OOPS", message="No."))
    )
    clock.now += 10
    assert list_charges(simulator) == []
    assert (failed.outcome, failed.failure) == (SimulatedOutcome.FAILED, ("OOPS", "No."))
    assert simulator.balance.can_cover(100)


def test_orders_beyond_the_concurrency_limit_are_queued_in_turn(clock):
    simulator = make_simulator(concurrency=2)
    orders = [simulator.place_order(build_order(name)) for name in "abcde"]
    assert [placed.starts_at for placed in orders] == [1_000, 1_000, 1_010, 1_010, 1_020]
    assert [placed.get_phase(clock.now) for placed in orders[:3]] == [
        Phase.DISPATCHING,
        Phase.DISPATCHING,
        Phase.QUEUED,
    ]
    clock.now = 1_010
    assert [name for name, _ in list_charges(simulator)] == ["a", "b"]
    clock.now = 1_015
    assert orders[2].get_phase(clock.now) is Phase.RUNNING


def test_lowered_concurrency_queues_new_orders(clock):
    simulator = make_simulator(concurrency=3)
    for name in "abc":
        simulator.place_order(build_order(name))
        clock.now += 1
    simulator.set_concurrency(1)
    assert simulator.place_order(build_order("d")).starts_at == 1_012
    simulator.set_concurrency(2)
    assert simulator.place_order(build_order("e")).starts_at == 1_003


def test_cancelled_running_order_is_charged(clock):
    simulator = make_simulator()
    running = simulator.place_order(build_order())
    clock.now += 1
    simulator.cancel_order(running)
    assert (running.outcome, running.get_phase(clock.now)) == (SimulatedOutcome.CANCELLED, Phase.FINISHED)
    clock.now += 100
    assert list_charges(simulator) == [("a", 100)]
    assert simulator.balance.reserved == 0


def test_cancelled_queued_order_is_free(clock):
    simulator = make_simulator(concurrency=1)
    simulator.place_order(build_order("a"))
    queued = simulator.place_order(build_order("b"))
    simulator.cancel_order(queued)
    clock.now += 100
    assert list_charges(simulator) == [("a", 100)]


def test_cancelling_a_finished_order_changes_nothing(clock):
    simulator = make_simulator()
    finished = simulator.place_order(build_order())
    clock.now += 10
    simulator.cancel_order(finished)
    assert finished.outcome is SimulatedOutcome.SUCCEEDED
    assert list_charges(simulator) == [("a", 100)]


def test_missing_images_are_not_charged_but_the_base_price_is(clock):
    simulator = make_simulator()
    partial = simulator.place_order(
        build_order(
            price=310, base_price=10, image_count=3, fault_rules=make_fault_rules(InjectedFault.PARTIAL, missing=2)
        )
    )
    clock.now += 10
    assert list_charges(simulator) == [("a", 110)]
    assert (partial.outcome, len(partial.images)) == (SimulatedOutcome.PARTIAL, 1)
    assert (simulator.balance.remaining, simulator.balance.reserved) == (890, 0)


def test_order_without_images_has_failed(clock):
    simulator = make_simulator()
    empty = simulator.place_order(
        build_order(image_count=2, fault_rules=make_fault_rules(InjectedFault.PARTIAL, missing=5))
    )
    clock.now += 10
    assert empty.outcome is SimulatedOutcome.FAILED
    assert list_charges(simulator) == []


def test_half_size_order_costs_the_full_price(clock):
    simulator = make_simulator()
    half_size = simulator.place_order(build_order(fault_rules=make_fault_rules(InjectedFault.HALF_SIZE)))
    clock.now += 10
    assert (half_size.images[0].width, half_size.images[0].height) == (32, 32)
    assert list_charges(simulator) == [("a", 100)]


def test_stuck_order_never_ends_and_takes_no_slot(clock):
    simulator = make_simulator(concurrency=1)
    stuck = simulator.place_order(build_order("a", fault_rules=make_fault_rules(InjectedFault.STUCK)))
    assert math.isinf(stuck.ends_at)
    assert simulator.place_order(build_order("b")).starts_at == clock.now
    clock.now += 1e9
    assert list_charges(simulator) == [("b", 100)]


def test_orders_can_be_finished_at_once_but_not_a_stuck_one(clock):
    """A queued order is finished, too, and its slot is free for the next order."""
    simulator = make_simulator(concurrency=1)
    running, queued = (simulator.place_order(build_order(name)) for name in ("a", "b"))
    stuck = simulator.place_order(build_order("c", fault_rules=make_fault_rules(InjectedFault.STUCK)))
    clock.now += 1
    simulator.finish_orders()
    assert list_charges(simulator) == [("a", 100), ("b", 100)]
    assert [order.get_phase(clock.now) for order in (running, queued)] == [Phase.FINISHED] * 2
    assert stuck.get_phase(clock.now) is not Phase.FINISHED
    assert simulator.place_order(build_order("d")).starts_at == clock.now


def test_order_takes_at_least_a_third_of_the_median(clock):
    simulator = make_simulator()
    simulator.latency = {"*": Latency(9, 100)}
    orders = [simulator.place_order(build_order(str(number), price=0)) for number in range(200)]
    assert min(placed.ends_at - placed.starts_at for placed in orders) == pytest.approx(3)


def test_old_orders_are_dropped_and_still_charged(clock, monkeypatch):
    monkeypatch.setattr(order_simulator, "MAX_ORDERS", 3)
    simulator = make_simulator()
    for number in range(5):
        simulator.place_order(build_order(str(number), price=1))
    assert list(simulator.orders) == ["2", "3", "4"]
    clock.now += 10
    assert len(list_charges(simulator)) == 5


def test_oldest_charges_are_dropped_and_counted(clock, monkeypatch):
    monkeypatch.setattr(charges, "MAX_CHARGES", 10)
    simulator = make_simulator(latency_seconds=0)
    for number in range(25):
        simulator.place_order(build_order(str(number), price=1))
    charge_list = list_charges(simulator)
    assert charge_list[-1] == ("24", 1)
    assert 9 <= len(charge_list) <= 10
    assert len(charge_list) + simulator.invoice.dropped_count == 25


def test_awaited_order_is_settled(monkeypatch):
    """Any timer may end slightly too early: the order is settled all the same."""
    simulator = make_simulator(latency_seconds=0.05)
    sleep = Delay.sleep
    monkeypatch.setattr(Delay, "sleep", lambda delay, seconds: sleep(delay, seconds / 2))
    placed = simulator.place_order(build_order())
    asyncio.run(simulator.wait_for_order(placed))
    assert placed.is_settled


def test_wait_for_a_stuck_order_ends_when_the_client_disconnects():
    messages = [{"type": "http.request", "body": b"late"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    simulator = make_simulator()
    stuck = simulator.place_order(build_order(fault_rules=make_fault_rules(InjectedFault.STUCK)))
    with pytest.raises(ClientDisconnectedError):
        asyncio.run(simulator.wait_for_order(stuck, receive))
    assert messages == []


FAULTS = st.sampled_from(
    [
        None,
        InjectedFault.FAIL,
        InjectedFault.PARTIAL,
        InjectedFault.STUCK,
        InjectedFault.HALF_SIZE,
        InjectedFault.EARLY_CALLBACK,
    ]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, 400), FAULTS),
        st.tuples(st.just("cancel"), st.integers(0, 20), st.none()),
        st.tuples(st.just("pass"), st.integers(0, 12), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_balance_and_charges_always_add_up(steps):
    clock, placed = FakeTime(), []
    original_time, order_simulator.time = order_simulator.time, SimpleNamespace(time=clock.time)  # type: ignore[assignment]
    try:
        simulator = make_simulator(concurrency=2)
        for step, number, kind in steps:
            if step == "pass":
                clock.now += number
            elif step == "cancel" and placed:
                simulator.cancel_order(placed[number % len(placed)])
            elif step == "place":
                simulated_order = build_order(
                    str(len(placed)), price=number, image_count=3, fault_rules=make_fault_rules(kind) if kind else {}
                )
                try:
                    placed.append(simulator.place_order(simulated_order))
                except InsufficientCreditError:
                    continue
            simulator.settle_finished()
            charged = sum(charge.micros for charge in simulator.invoice.charges)
            assert simulator.balance.spent == charged == 1_000 - simulator.balance.remaining
            assert simulator.balance.reserved == sum(
                simulated_order.price_micros for simulated_order in placed if not simulated_order.is_settled
            )
            assert simulator.balance.remaining >= simulator.balance.reserved >= 0
            assert len({charge.id for charge in simulator.invoice.charges}) == len(simulator.invoice.charges)
    finally:
        order_simulator.time = original_time


def test_delay_that_was_ended_before_its_sleep_takes_no_time():
    async def scenario():
        delays = Delays()
        delay = delays.create_delay()
        delays.end_all()
        await asyncio.wait_for(delay.sleep(3_600), 30)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(delays.create_delay().sleep(3_600), 0.01)

    asyncio.run(scenario())
