"""What fault tests share: a store that is closed in any case, and what must hold after each fault."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from gateway.store.base import Balance
from gateway.store.redis import RedisStore
from tests.store import orders


def run(story: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(story)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = await RedisStore(url, **{"clock": orders.Clock(), **options}).open()
    try:
        yield store
    finally:
        await store.close()


async def balance(store: RedisStore, team: str = "acme") -> Balance:
    return (await store.budget(team, orders.DAY))[orders.DAY]


async def violations(store: RedisStore) -> int:
    return sum([(await store.audit(partition, repair=False)).violations for partition in store.partitions])
