"""Memory budget for large bodies: served in order, always released, no deadlock."""

import asyncio
import random
from collections.abc import Awaitable

import pytest

from gateway.memory_budget import SMALL_BODY_BYTES, MemoryBudget, MemoryReservation
from gateway.upstream.seller_client import CallOptions, SellerClient
from providers.adapter import Answer
from tests.harness.virtual_time_loop import in_virtual_time
from tests.upstream.fake_servers import GET_CALL, build_response, make_responder, make_seller, run_async, run_server

MIB = 1 << 20


async def _completes_soon(waiting: Awaitable[None]) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(waiting)), 0.02)
    except TimeoutError:
        return False
    return True


async def _serve_behind(
    first: MemoryReservation, budget: MemoryBudget, *bodies: tuple[MemoryReservation, int, str]
) -> list[str]:
    """Starts bodies of a reservation, a size and a name, which wait until `first` is released.

    Each holds its size for 10 ms. Returns their names in the order in which they were served."""
    served: list[str] = []

    async def serve(reservation: MemoryReservation, size: int, name: str) -> None:
        await reservation.grow_to(size)
        served.append(name)
        await asyncio.sleep(0.01)
        reservation.release()

    async with asyncio.TaskGroup() as tasks:
        for body in bodies:
            tasks.create_task(serve(*body))
            await asyncio.sleep(0.02)
        assert (served, budget.waiter_count) == ([], len(bodies))
        first.release()
    assert (budget.reserved_bytes, budget.outgoing_bytes) == (0, 0)
    return served


@in_virtual_time
async def test_small_bodies_never_wait() -> None:
    budget = MemoryBudget(MIB)
    await budget.make_incoming_reservation().grow_to(MIB)
    small = budget.make_incoming_reservation()
    assert await _completes_soon(small.grow_to(SMALL_BODY_BYTES))
    assert (small.held_bytes, budget.reserved_bytes) == (0, MIB)


@in_virtual_time
async def test_waiters_are_served_in_order_even_if_a_later_one_fits() -> None:
    budget = MemoryBudget(10 * MIB)
    first = budget.make_incoming_reservation()
    await first.grow_to(8 * MIB)
    large = budget.make_incoming_reservation(), 9 * MIB, "large"
    modest = budget.make_incoming_reservation(), MIB, "modest"
    assert await _serve_behind(first, budget, large, modest) == ["large", "modest"]


@in_virtual_time
async def test_body_larger_than_the_budget_reserves_all_of_it() -> None:
    budget = MemoryBudget(MIB)
    await budget.make_incoming_reservation().grow_to(5 * MIB)
    assert budget.reserved_bytes == MIB


@in_virtual_time
async def test_growing_reservations_do_not_deadlock() -> None:
    budget = MemoryBudget(4 * MIB)
    reservations = [budget.make_incoming_reservation() for _ in range(4)]
    for reservation in reservations:
        await reservation.grow_to(MIB)

    async def finish(index: int) -> None:
        await reservations[index].grow_to(3 * MIB)
        await asyncio.sleep(0)
        reservations[index].release()

    await asyncio.wait_for(asyncio.gather(*(finish(index) for index in range(4))), 2.0)
    assert (budget.reserved_bytes, budget.waiter_count) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
@in_virtual_time
async def test_cancelled_reservations_are_released(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    budget = MemoryBudget(4 * MIB)

    async def reserve_and_release() -> None:
        is_outgoing = chance.random() < 0.3
        reservation = budget.make_outgoing_reservation() if is_outgoing else budget.make_incoming_reservation()
        try:
            for _ in range(1 if is_outgoing else 3):
                await reservation.grow_to(reservation.held_bytes + chance.randrange(2 * MIB))
                await asyncio.sleep(chance.random() * 0.002)
        finally:
            reservation.release()

    tasks = [asyncio.create_task(reserve_and_release()) for _ in range(100)]
    for task in tasks:
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.001)
            task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5.0)
    assert (budget.reserved_bytes, budget.outgoing_bytes, budget.waiter_count) == (0, 0, 0)


@in_virtual_time
async def test_incoming_bodies_are_served_before_outgoing_ones() -> None:
    budget = MemoryBudget(8 * MIB)
    first = budget.make_outgoing_reservation()
    await first.grow_to(6 * MIB)
    outgoing = [(budget.make_outgoing_reservation(), 4 * MIB, "out") for _ in range(2)]
    incoming = [(budget.make_incoming_reservation(), 4 * MIB, "in") for _ in range(2)]
    assert await _serve_behind(first, budget, *outgoing, *incoming) == ["in", "in", "out", "out"]


@in_virtual_time
async def test_part_of_the_budget_is_kept_for_incoming_bodies() -> None:
    budget = MemoryBudget(8 * MIB)
    await budget.make_outgoing_reservation().grow_to(100 * MIB)
    assert budget.reserved_bytes == 6 * MIB
    assert not await _completes_soon(budget.make_outgoing_reservation().grow_to(MIB))
    assert await _completes_soon(budget.make_incoming_reservation().grow_to(2 * MIB))


@pytest.mark.parametrize("declares_length", [True, False])
def test_many_large_responses_share_a_small_budget(declares_length: bool) -> None:
    body = b"z" * (3 * MIB)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def scenario() -> None:
        handle = make_responder(build_response(body) if declares_length else chunked)
        async with run_server(handle) as server, SellerClient(memory_budget=MemoryBudget(4 * MIB)) as client:
            seller = make_seller(server.url)
            outcomes = await asyncio.gather(
                *(client.send(GET_CALL, seller, CallOptions(timeout_seconds=10.0)) for _ in range(20))
            )
            assert all(isinstance(outcome, Answer) and outcome.body == body for outcome in outcomes)
            assert (client.memory_budget.reserved_bytes, client.memory_budget.waiter_count) == (0, 0)

    run_async(scenario())
