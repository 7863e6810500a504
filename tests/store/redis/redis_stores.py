"""Helpers of fault tests: stores that are always closed, and checks after each fault."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from gateway.store.base import BudgetBalance
from gateway.store.redis import RedisStore
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory


def run_async(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(scenario)


@asynccontextmanager
async def open_store(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = await RedisStore(url, **{"clock": ManualClock(job_factory.NOON), **options}).open()
    try:
        yield store
    finally:
        await store.close()


async def load_day_balance(store: RedisStore, team: str = "acme") -> BudgetBalance:
    return (await store.load_balances(team, job_factory.DAY))[job_factory.DAY]


async def count_discrepancies(store: RedisStore) -> int:
    return sum([(await store.audit(partition, repair=False)).discrepancy_count for partition in store.partitions])
