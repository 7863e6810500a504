"""One of two processes that race for the same money and the same jobs: told what to do and when, line by line."""

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from gateway.jobs.facts import CallbackSeen
from gateway.store.base import FIRST_FENCE
from gateway.store.redis import RedisStore
from tests.store import orders


class Racer:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def accept(self, team: str, jobs: int, day: int) -> dict[str, Any]:
        """So many jobs at once, all against the same limit."""
        commits = [orders.acceptance(orders.NOON, team, day=day) for _ in range(jobs)]
        outcomes = await orders.together(self._store.commit(commit) for commit in commits)
        return dict(Counter(type(outcome).__name__ for outcome in outcomes))

    async def decide(self, job: str, place: int) -> dict[str, Any]:
        """Whoever gets the job decides about it, and whoever does not tries to, with what it knew before."""
        known = await self._store.load(job)
        assert known is not None
        await told("loaded")
        claimed = {one.job.id: one for one in await self._store.claim()}.get(job)
        fence = claimed.fence if claimed else FIRST_FENCE
        opening = orders.changed(known, orders.opened(known, fence, place), orders.NOON)
        outcome = await self._store.commit(opening)
        return {"claimed": claimed is not None, "outcome": type(outcome).__name__}

    async def learn(self, job: str, number: int) -> dict[str, Any]:
        """Both see the same version of the job, and each its own moment."""
        known = await self._store.load(job)
        assert known is not None
        await told("loaded")
        seen = orders.changed(known, CallbackSeen(attempt=1), orders.NOON + number)
        return {"outcome": type(await self._store.commit(seen)).__name__}


async def told(said: object) -> dict[str, Any] | None:
    """Answers with this, and waits for what to do next; None at the end."""
    print(json.dumps(said), flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


async def main(url: str, owner: str, now: float) -> None:
    store = await RedisStore(url, owner=owner, clock=lambda: now).open()
    racer = Racer(store)
    said: object = "ready"
    try:
        while order := await told(said):
            said = await getattr(racer, order.pop("do"))(**order)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
