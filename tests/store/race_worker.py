"""One of two processes that race for the same budget and jobs. It receives its commands as JSON lines."""

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from gateway.jobs.budgets import BudgetLimits, KeyBudget
from gateway.jobs.job_update_types import CallbackReceived
from gateway.store.base import FIRST_FENCE
from gateway.store.redis import RedisStore
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import GUARD_SECONDS
from tests.store import job_factory


class RaceWorker:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def create_jobs(self, team: str, job_count: int, limits: dict[str, int], key_id: str) -> dict[str, Any]:
        """Creates so many jobs at once, all against the same limit of their team, or of an API key."""
        budget = {"key_budget": KeyBudget(key_id, BudgetLimits(**limits))} if key_id else limits
        commits = [job_factory.make_create_commit(job_factory.NOON, team, **budget) for _ in range(job_count)]
        outcomes = await job_factory.gather_all(self._store.commit(commit) for commit in commits)
        return dict(Counter(type(outcome).__name__ for outcome in outcomes))

    async def claim_and_start(self, job_id: str, route_index: int) -> dict[str, Any]:
        """Tries to claim the job and to start its attempt, without a claim with the former fence."""
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
        """Loads the job, waits for the other process to load it, and commits a callback `time_offset` after noon."""
        loaded_job = await self._store.load_job(job_id)
        assert loaded_job is not None
        await exchange_message("loaded")
        callback_commit = job_factory.make_update_commit(
            loaded_job, CallbackReceived(attempt=1), job_factory.NOON + time_offset
        )
        return {"outcome": type(await self._store.commit(callback_commit)).__name__}


async def exchange_message(reply: object) -> dict[str, Any] | None:
    """Sends the reply, and waits for the next command. Returns None at the end."""
    print(json.dumps(reply), flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


async def main(url: str, replica_id: str, now: float) -> None:
    # A busy machine must not end the race.
    timing = StoreTiming(command_timeout_seconds=GUARD_SECONDS)
    store = await RedisStore(url, replica_id=replica_id, clock=lambda: now, timing=timing).open()
    worker = RaceWorker(store)
    reply: object = "ready"
    try:
        while command := await exchange_message(reply):
            reply = await getattr(worker, command.pop("command"))(**command)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
