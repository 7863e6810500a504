"""What teams share: none takes more than its part, none waits behind another's crowd, and nothing of it is lost."""

import asyncio
import random
import time

import pytest

from gateway.upstream import fair_budget
from gateway.upstream.fair_budget import BudgetFull, FairBudget
from tests.upstream.servers import run


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_tenant_that_holds_its_part_is_refused_and_others_are_not() -> None:
    async def takes() -> None:
        budget = FairBudget(total=8, per_tenant=2)
        for _ in range(2):
            await budget.acquire("beta", 0.0)
        with pytest.raises(BudgetFull) as refused:
            await budget.acquire("beta", 0.05)
        assert refused.value.is_own
        await budget.acquire("alpha", 0.0)
        assert budget.in_use == 3

    run(takes())


def test_refusal_says_whether_the_whole_is_taken() -> None:
    async def takes() -> None:
        budget = FairBudget(total=2, per_tenant=2)
        for tenant in ("one", "two"):
            await budget.acquire(tenant, 0.0)
        with pytest.raises(BudgetFull) as refused:
            await budget.acquire("alpha", 0.05)
        assert not refused.value.is_own
        budget.release("one")
        await budget.acquire("alpha", 0.0)

    run(takes())


def test_free_part_goes_to_the_tenant_that_holds_least() -> None:
    async def takes() -> list[str]:
        budget, served = FairBudget(total=4, per_tenant=4), []

        async def take(tenant: str) -> None:
            await budget.acquire(tenant, 5.0)
            served.append(tenant)

        for _ in range(4):
            await budget.acquire("beta", 0.0)
        waiting = [asyncio.create_task(take(tenant)) for tenant in ("beta", "beta", "alpha", "alpha")]
        await settle()
        for _ in range(4):
            budget.release("beta")
            await settle()
        await asyncio.gather(*waiting)
        return served

    # One release each: beta still holds 3, 2, 1 of its first four when they come.
    assert run(takes()) == ["alpha", "alpha", "beta", "beta"]


def test_crowd_of_one_tenant_is_bounded_and_costs_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_budget, "MAX_WAITING", 10)

    async def crowds() -> None:
        budget = FairBudget(total=4, per_tenant=2)
        for _ in range(2):
            await budget.acquire("beta", 0.0)
        crowd = [asyncio.create_task(budget.acquire("beta", 5.0)) for _ in range(10)]
        await settle()
        began = time.monotonic()
        with pytest.raises(BudgetFull):
            await budget.acquire("beta", 5.0)
        await budget.acquire("alpha", 5.0)
        assert time.monotonic() - began < 1.0
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert budget.in_use == 3

    run(crowds())


def test_amount_beyond_a_part_is_refused_at_once() -> None:
    async def takes() -> None:
        with pytest.raises(BudgetFull):
            await FairBudget(total=100, per_tenant=10).acquire("alpha", 60.0, 11)

    run(takes())


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_however_tenants_give_up(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  a repeatable one

    async def lives() -> None:
        budget, held = FairBudget(total=20, per_tenant=8), {"a": 0, "b": 0, "c": 0}

        async def take(tenant: str) -> None:
            amount = chance.randint(1, 5)
            try:
                await budget.acquire(tenant, chance.random() * 0.01, amount)
            except BudgetFull:
                return
            held[tenant] += amount
            assert held[tenant] <= 8
            assert sum(held.values()) <= 20
            try:
                await asyncio.sleep(chance.random() * 0.005)
            finally:
                held[tenant] -= amount
                budget.release(tenant, amount)

        tasks = [asyncio.create_task(take(chance.choice("abc"))) for _ in range(300)]
        for task in tasks:
            await asyncio.sleep(chance.random() * 0.001)
            if chance.random() < 0.3:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not [task for task in tasks if not task.cancelled() and task.exception()]
        assert (budget.in_use, budget._waiting) == (0, {})

    run(lives())
