"""The memory that large bodies share: in line, given back whatever happens, and never waited for in a circle."""

import asyncio
import random
from collections.abc import Awaitable

import pytest

from gateway.upstream.budget import SMALL_BYTES, ByteBudget, Share
from gateway.upstream.client import Exchange, Upstream
from providers.spec import Answer
from tests.upstream.servers import GET, answer, run, says, seller, server

MIB = 1 << 20


async def _soon(waiting: Awaitable[None]) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(waiting)), 0.02)
    except TimeoutError:
        return False
    return True


def test_small_bodies_never_wait() -> None:
    async def grows() -> None:
        budget = ByteBudget(MIB)
        await budget.share().grow(MIB)
        small = budget.share()
        assert await _soon(small.grow(SMALL_BYTES))
        assert (small.held, budget.taken) == (0, MIB)

    run(grows())


def test_who_came_first_is_served_first_also_if_a_later_one_would_fit() -> None:
    async def in_line() -> list[str]:
        budget = ByteBudget(10 * MIB)
        first = budget.share()
        await first.grow(8 * MIB)
        served: list[str] = []

        async def take(name: str, size: int) -> None:
            share = budget.share()
            await share.grow(size)
            served.append(name)
            await asyncio.sleep(0.01)
            share.give_back()

        line = [asyncio.create_task(take(name, size)) for name, size in (("large", 9 * MIB), ("modest", MIB))]
        await asyncio.sleep(0.02)
        assert (served, budget.waiting) == ([], 2)
        first.give_back()
        await asyncio.gather(*line)
        assert budget.taken == 0
        return served

    assert run(in_line()) == ["large", "modest"]


def test_a_body_larger_than_everything_takes_everything() -> None:
    async def takes() -> int:
        budget = ByteBudget(MIB)
        await budget.share().grow(5 * MIB)
        return budget.taken

    assert run(takes()) == MIB


def test_those_who_hold_some_and_need_more_do_not_wait_for_each_other() -> None:
    async def grow() -> None:
        budget = ByteBudget(4 * MIB)
        shares = [budget.share() for _ in range(4)]
        for share in shares:
            await share.grow(MIB)

        async def finish(index: int) -> None:
            await shares[index].grow(3 * MIB)
            await asyncio.sleep(0)
            shares[index].give_back()

        await asyncio.wait_for(asyncio.gather(*(finish(index) for index in range(4))), 2.0)
        assert (budget.taken, budget.waiting) == (0, 0)

    run(grow())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_cancelled_everything_comes_back(seed: int) -> None:
    async def churn() -> None:
        chance = random.Random(seed)  # noqa: S311
        budget = ByteBudget(4 * MIB)

        async def one() -> None:
            goes_out = chance.random() < 0.3
            share = budget.share_to_send() if goes_out else budget.share()
            try:
                for _ in range(1 if goes_out else 3):
                    await share.grow(share.held + chance.randrange(2 * MIB))
                    await asyncio.sleep(chance.random() * 0.002)
            finally:
                share.give_back()

        tasks = [asyncio.create_task(one()) for _ in range(100)]
        for task in tasks:
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.001)
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5.0)
        assert (budget.taken, budget.taken_to_send, budget.waiting) == (0, 0, 0)

    run(churn())


def test_what_comes_in_goes_before_what_is_to_go_out() -> None:
    async def in_line() -> list[str]:
        budget = ByteBudget(8 * MIB)
        first = budget.share_to_send()
        await first.grow(6 * MIB)
        served: list[str] = []

        async def take(name: str, share: Share) -> None:
            await share.grow(4 * MIB)
            served.append(name)
            await asyncio.sleep(0.01)
            share.give_back()

        line = [asyncio.create_task(take("out", budget.share_to_send())) for _ in range(2)]
        await asyncio.sleep(0.02)
        line += [asyncio.create_task(take("in", budget.share())) for _ in range(2)]
        await asyncio.sleep(0.02)
        assert (served, budget.waiting) == ([], 4)
        first.give_back()
        await asyncio.gather(*line)
        assert (budget.taken, budget.taken_to_send) == (0, 0)
        return served

    assert run(in_line()) == ["in", "in", "out", "out"]


def test_some_room_is_for_what_comes_in_alone() -> None:
    async def grows() -> None:
        budget = ByteBudget(8 * MIB)
        await budget.share_to_send().grow(100 * MIB)
        assert budget.taken == 6 * MIB
        assert not await _soon(budget.share_to_send().grow(MIB))
        assert await _soon(budget.share().grow(2 * MIB))

    run(grows())


@pytest.mark.parametrize("announced", [True, False])
def test_many_large_answers_share_a_small_budget(announced: bool) -> None:
    body = b"z" * (3 * MIB)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def orders() -> None:
        behave = says(answer(body) if announced else chunked)
        async with server(behave) as running, Upstream(budget=ByteBudget(4 * MIB)) as upstream:
            asking = seller(running.url)
            outcomes = await asyncio.gather(*(upstream.perform(GET, asking, Exchange(seconds=10.0)) for _ in range(20)))
            assert all(isinstance(outcome, Answer) and outcome.body == body for outcome in outcomes)
            assert (upstream.budget.taken, upstream.budget.waiting) == (0, 0)

    run(orders())
