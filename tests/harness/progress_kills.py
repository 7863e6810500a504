"""A gateway that kills itself after so much progress, however long a busy machine takes for it."""

import os
import signal
from typing import Any

from gateway.jobs.next_actions import MAX_RECLAIMS_WITHOUT_PROGRESS
from gateway.store.base import Applied
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from gateway.upstream.seller_client import SellerClient
from tests.harness.child_spec import Hook


def make_progress_kill_hook(steps: int) -> Hook:
    return Hook("tests.harness.progress_kills:install_progress_kill", {"steps": steps})


class ProgressKiller:
    """Kills this process at a step: before or after a commit, or before or after a call to a seller.

    It waits while this process has a job that the next claim would abandon, until that job changes: several kills in a
    row must not look like a job that crashes its workers.
    """

    def __init__(self, steps: int) -> None:
        self._remaining_steps = steps
        self._endangered_jobs: set[str] = set()

    def take_step(self) -> None:
        self._remaining_steps -= 1
        if self._remaining_steps <= 0 and not self._endangered_jobs:
            os.kill(os.getpid(), signal.SIGKILL)

    def record_claim(self, job_id: str, reclaims: int) -> None:
        if reclaims == MAX_RECLAIMS_WITHOUT_PROGRESS - 1:
            self._endangered_jobs.add(job_id)

    def record_change(self, job_id: str) -> None:
        self._endangered_jobs.discard(job_id)


def install_progress_kill(steps: int) -> None:
    killer = ProgressKiller(steps)
    for store in (SqliteStore, RedisStore):
        _count_steps_of_store(store, killer)
    send: Any = SellerClient.send

    async def send_in_steps(*arguments: Any) -> Any:
        killer.take_step()
        answer = await send(*arguments)
        killer.take_step()
        return answer

    SellerClient.send = send_in_steps  # type: ignore[method-assign]


def _count_steps_of_store(store: Any, killer: ProgressKiller) -> None:
    commit, claim_jobs = store.commit, store.claim_jobs

    async def commit_in_steps(self: Any, change: Any) -> Any:
        killer.take_step()
        outcome = await commit(self, change)
        if isinstance(outcome, Applied):
            killer.record_change(change.job.id)
        killer.take_step()
        return outcome

    async def claim_and_record(self: Any, *arguments: Any) -> Any:
        claimed_jobs = await claim_jobs(self, *arguments)
        for claimed in claimed_jobs:
            killer.record_claim(claimed.job.id, claimed.reclaims)
        return claimed_jobs

    store.commit, store.claim_jobs = commit_in_steps, claim_and_record
