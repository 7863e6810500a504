"""A failover loses a claim, and the next claim gets the same fence: the former owner may not decide any more."""

import pytest

from gateway.store.base import Applied, ClaimedJob, LeaseLost
from gateway.store.partitions import team_partition
from gateway.store.redis.keys import PartitionKeys
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import count_discrepancies, open_store, run_async
from tests.store.redis_servers import RedisServer
from tests.store.store_harness import LEASE_SECONDS

pytestmark = pytest.mark.usefixtures("empty_redis")
FENCE_OF_BOTH = 2
KEYS = PartitionKeys(team_partition("acme"))


def test_former_owner_with_the_same_fence_has_lost_the_job(single_server: RedisServer) -> None:
    async def scenario() -> None:
        clock = ManualClock(NOON)
        async with (
            open_store(single_server.url, replica_id="former", clock=clock) as former,
            open_store(single_server.url, replica_id="present", clock=clock) as present,
        ):
            creation = job_factory.make_create_commit(NOON)
            job = creation.job
            assert await present.commit(creation) == Applied()
            clock.now += LEASE_SECONDS
            snapshot = single_server.execute("DUMP", KEYS.job(job.id)), _read_due_time(single_server, job.id)
            assert await former.claim_jobs() == (ClaimedJob(job=job, fence=FENCE_OF_BOTH, reclaims=1),)
            # The failover: the new primary has not received the claim.
            _restore_job(single_server, job.id, *snapshot)
            assert await present.claim_jobs() == (ClaimedJob(job=job, fence=FENCE_OF_BOTH, reclaims=1),)

            start = job_factory.make_update_commit(
                job, job_factory.make_attempt_started(job, fence=FENCE_OF_BOTH), clock.now
            )
            due_time = _read_due_time(single_server, job.id)
            assert await former.commit(start) == LeaseLost()
            assert await former.renew_leases({job.id: FENCE_OF_BOTH}) == frozenset({job.id})
            assert not await former.release_job(job.id, FENCE_OF_BOTH, 0.0)
            assert await present.load_job(job.id) == job
            assert _read_due_time(single_server, job.id) == due_time

            assert await present.renew_leases({job.id: FENCE_OF_BOTH}) == frozenset()
            assert await present.commit(start) == Applied()
            fact = job_factory.make_update_commit(start.job, job_factory.make_ticket_received(), clock.now)
            assert await former.commit(fact) == Applied(), "facts need no lease"
            assert await present.release_job(job.id, FENCE_OF_BOTH, 0.0)
            assert await count_discrepancies(present) == 0

    run_async(scenario())


def _read_due_time(server: RedisServer, job_id: str) -> float:
    return float(server.execute("ZSCORE", KEYS.due, job_id))


def _restore_job(server: RedisServer, job_id: str, dump: bytes, due_time: float) -> None:
    server.execute("RESTORE", KEYS.job(job_id), 0, dump, "REPLACE")
    server.execute("ZADD", KEYS.due, due_time, job_id)
