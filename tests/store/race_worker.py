"""One of two processes that race for the same money and the same jobs: told what to do and when, line by line."""

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from gateway.jobs.updates import CallbackReceived
from gateway.store.base import FIRST_FENCE
from gateway.store.redis import RedisStore
from tests.store import job_factory


class RaceWorker:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def create_jobs(self, team: str, job_count: int, day: int) -> dict[str, Any]:
        """So many jobs at once, all against the same limit."""
        commits = [job_factory.make_create_commit(job_factory.NOON, team, day=day) for _ in range(job_count)]
        outcomes = await job_factory.gather_all(self._store.commit(commit) for commit in commits)
        return dict(Counter(type(outcome).__name__ for outcome in outcomes))

    async def claim_and_start(self, job_id: str, route_index: int) -> dict[str, Any]:
        """Whoever gets the job decides about it, and whoever does not tries to, with what it knew before."""
        loaded_job = await self._store.load_job(job_id)
        assert loaded_job is not None
        await exchange_message("loaded")
        claimed_job = {claim.job.id: claim for claim in await self._store.claim_jobs()}.get(job_id)
        fence = claimed_job.fence if claimed_job else FIRST_FENCE
        start_commit = job_factory.make_update_commit(
            loaded_job, job_factory.make_attempt_started(loaded_job, fence, route_index), job_factory.NOON
        )
        outcome = await self._store.commit(start_commit)
        return {"claimed": claimed_job is not None, "outcome": type(outcome).__name__}

    async def record_callback(self, job_id: str, time_offset: int) -> dict[str, Any]:
        """Both see the same version of the job, and each its own moment."""
        loaded_job = await self._store.load_job(job_id)
        assert loaded_job is not None
        await exchange_message("loaded")
        callback_commit = job_factory.make_update_commit(
            loaded_job, CallbackReceived(attempt=1), job_factory.NOON + time_offset
        )
        return {"outcome": type(await self._store.commit(callback_commit)).__name__}


async def exchange_message(reply: object) -> dict[str, Any] | None:
    """Answers with this, and waits for what to do next; None at the end."""
    print(json.dumps(reply), flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


async def main(url: str, replica_id: str, now: float) -> None:
    store = await RedisStore(url, replica_id=replica_id, clock=lambda: now).open()
    worker = RaceWorker(store)
    reply: object = "ready"
    try:
        while command := await exchange_message(reply):
            reply = await getattr(worker, command.pop("do"))(**command)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
