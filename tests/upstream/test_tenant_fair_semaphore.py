"""Tenants share fairly: none exceeds its limit, none waits behind another's queue, no share is lost."""

import asyncio
import random

import pytest

from gateway.upstream import tenant_fair_semaphore
from gateway.upstream.tenant_fair_semaphore import SemaphoreFull, TenantFairSemaphore
from tests.harness.virtual_time_loop import in_virtual_time, run_in_virtual_time


async def run_pending_tasks() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@in_virtual_time
async def test_tenant_at_its_limit_is_rejected_and_others_are_not() -> None:
    budget = TenantFairSemaphore(max_total=8, max_per_tenant=2)
    for _ in range(2):
        await budget.acquire("beta", 0.0)
    with pytest.raises(SemaphoreFull) as refused:
        await budget.acquire("beta", 0.05)
    assert refused.value.is_own
    await budget.acquire("alpha", 0.0)
    assert budget.in_use == 3


@in_virtual_time
async def test_rejection_names_own_or_total_limit() -> None:
    budget = TenantFairSemaphore(max_total=2, max_per_tenant=2)
    for tenant in ("one", "two"):
        await budget.acquire(tenant, 0.0)
    with pytest.raises(SemaphoreFull) as refused:
        await budget.acquire("alpha", 0.05)
    assert not refused.value.is_own
    budget.release("one")
    await budget.acquire("alpha", 0.0)


def test_free_slot_goes_to_the_tenant_that_holds_least() -> None:
    async def scenario() -> list[str]:
        budget, served = TenantFairSemaphore(max_total=4, max_per_tenant=4), []

        async def acquire_slot(tenant: str) -> None:
            await budget.acquire(tenant, 5.0)
            served.append(tenant)

        for _ in range(4):
            await budget.acquire("beta", 0.0)
        waiting = [asyncio.create_task(acquire_slot(tenant)) for tenant in ("beta", "beta", "alpha", "alpha")]
        await run_pending_tasks()
        for _ in range(4):
            budget.release("beta")
            await run_pending_tasks()
        await asyncio.gather(*waiting)
        return served

    # One release each: beta still holds 3, 2, 1 of its first four at these moments.
    assert run_in_virtual_time(scenario()) == ["alpha", "alpha", "beta", "beta"]


def test_waiters_of_one_tenant_are_limited_and_do_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_fair_semaphore, "MAX_WAITERS", 10)

    async def scenario() -> None:
        budget = TenantFairSemaphore(max_total=4, max_per_tenant=2)
        for _ in range(2):
            await budget.acquire("beta", 0.0)
        waiters = [asyncio.create_task(budget.acquire("beta", 5.0)) for _ in range(10)]
        await run_pending_tasks()
        started_at = asyncio.get_running_loop().time()
        with pytest.raises(SemaphoreFull):
            await budget.acquire("beta", 5.0)
        await budget.acquire("alpha", 5.0)
        assert asyncio.get_running_loop().time() == started_at
        for task in waiters:
            task.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert budget.in_use == 3

    run_in_virtual_time(scenario())


@in_virtual_time
async def test_amount_over_the_tenant_limit_is_rejected_at_once() -> None:
    with pytest.raises(SemaphoreFull):
        await TenantFairSemaphore(max_total=100, max_per_tenant=10).acquire("alpha", 60.0, 11)


@pytest.mark.parametrize("seed", range(5))
def test_random_cancellations_leak_nothing(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  a repeatable one

    async def scenario() -> None:
        budget, held = TenantFairSemaphore(max_total=20, max_per_tenant=8), {"a": 0, "b": 0, "c": 0}

        async def acquire_and_release(tenant: str) -> None:
            amount = chance.randint(1, 5)
            try:
                await budget.acquire(tenant, chance.random() * 0.01, amount)
            except SemaphoreFull:
                return
            held[tenant] += amount
            assert held[tenant] <= 8
            assert sum(held.values()) <= 20
            try:
                await asyncio.sleep(chance.random() * 0.005)
            finally:
                held[tenant] -= amount
                budget.release(tenant, amount)

        tasks = [asyncio.create_task(acquire_and_release(chance.choice("abc"))) for _ in range(300)]
        for task in tasks:
            await asyncio.sleep(chance.random() * 0.001)
            if chance.random() < 0.3:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not [task for task in tasks if not task.cancelled() and task.exception()]
        assert (budget.in_use, budget._waiters) == (0, {})

    run_in_virtual_time(scenario())
