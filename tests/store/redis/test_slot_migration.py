"""Slots of a Cluster move while jobs run: MOVED errors of two real nodes."""

from pathlib import Path

import pytest

from gateway.store.base import Applied
from gateway.store.redis.keys import PartitionKeys
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.redis.cluster_nodes import join_nodes
from tests.store.redis.redis_stores import count_discrepancies, open_store, run_async
from tests.store.redis_servers import RedisServer


@pytest.mark.thorough
def test_partition_is_found_after_moving_to_another_node(tmp_path: Path) -> None:
    """The keys move during a job's life. New jobs and queries work afterwards, too."""

    async def scenario(old: RedisServer, new: RedisServer) -> None:
        async with open_store(old.url) as store:
            first = job_factory.make_create_commit(NOON)
            assert await store.commit(first) == Applied()
            _migrate_partition(old, new, first.job.id)
            start = job_factory.make_update_commit(first.job, job_factory.make_attempt_started(first.job), NOON)
            assert await store.commit(start) == Applied()
            assert await store.commit(start) == Applied()
            assert await store.load_job(first.job.id) == start.job
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
            assert len((await store.list_jobs("acme")).jobs) == 2
            assert await store.renew_leases({first.job.id: 1}) == frozenset()
            assert await count_discrepancies(store) == 0
        async with open_store(new.url) as store:
            assert await store.load_job(first.job.id) == start.job

    with (
        redis_servers.run_cluster_server(tmp_path / "old") as old,
        redis_servers.run_cluster_server(tmp_path / "new") as new,
    ):
        join_nodes(old, new)
        run_async(scenario(old, new))


def _migrate_partition(old: RedisServer, new: RedisServer, job_id: str) -> None:
    slot = old.execute("CLUSTER", "KEYSLOT", PartitionKeys(int(job_id[4:6])).due)
    old_id, new_id = (server.execute("CLUSTER", "MYID").decode() for server in (old, new))
    new.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
    old.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
    keys = old.execute("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    old.execute("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
    for server in (new, old):
        server.execute("CLUSTER", "SETSLOT", slot, "NODE", new_id)
