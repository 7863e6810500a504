"""Jobs of a newer version stay unchanged, and all other jobs are processed."""

import pytest

from gateway.store.base import Applied, StoreError
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis_servers import RedisServer


def test_undecodable_job_is_skipped_and_reported(empty_redis: None, single_server: RedisServer) -> None:
    async def scenario() -> None:
        clock = ManualClock(job_factory.NOON)
        async with open_store(single_server.url, clock=clock) as store:
            undecodable, known = job_factory.make_create_commit(NOON), job_factory.make_create_commit(NOON + 1)
            assert {await store.commit(commit) for commit in (undecodable, known)} == {Applied()}
            key = f"igw:{{{undecodable.job.id[4:6]}}}:job:{undecodable.job.id}"
            newer = undecodable.encoded_job.replace(b'"created_at"', b'"made_at"')
            single_server.execute("HSET", key, "encoded_job", newer)
            assert store.warnings == ()
            clock.now += 60
            assert [claimed.job for claimed in await store.claim_jobs()] == [known.job]
            assert (await store.list_jobs("acme")).jobs == (known.job,)
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.load_job(undecodable.job.id)
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.audit(int(undecodable.job.id[4:6]))
            assert undecodable.job.id in " ".join(store.warnings)
            assert single_server.execute("HGET", key, "encoded_job") == newer
        single_server.execute("DEL", "igw:runs")
        async with open_store(single_server.url, clock=clock) as store:
            assert await store.load_job(known.job.id) == known.job

    run_async(scenario())
