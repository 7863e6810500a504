"""A Cluster whose slots move while jobs run: MOVED, from two real nodes."""

from pathlib import Path

from gateway.store.base import Applied
from gateway.store.redis.keys import Keys
from tests.store import orders, servers
from tests.store.orders import NOON
from tests.store.redis.clusters import joined
from tests.store.redis.stories import opened, run, violations
from tests.store.servers import Server


def test_a_partition_that_moved_to_another_node_is_followed(tmp_path: Path) -> None:
    """In the middle of a job's life, with its keys; also for what was not there before, and for reading."""

    async def story(old: Server, new: Server) -> None:
        async with opened(old.url) as store:
            first = orders.acceptance(NOON)
            assert await store.commit(first) == Applied()
            _move(old, new, first.job.id)
            opening = orders.changed(first.job, orders.opened(first.job), NOON)
            assert await store.commit(opening) == Applied()
            assert await store.commit(opening) == Applied()
            assert await store.load(first.job.id) == opening.job
            assert await store.commit(orders.acceptance(NOON)) == Applied()
            assert len((await store.list("acme")).jobs) == 2
            assert await store.beat({first.job.id: 1}) == frozenset()
            assert await violations(store) == 0
        async with opened(new.url) as store:
            assert await store.load(first.job.id) == opening.job

    with servers.clustered(tmp_path / "old") as old, servers.clustered(tmp_path / "new") as new:
        joined(old, new)
        run(story(old, new))


def _move(old: Server, new: Server, job: str) -> None:
    slot = old.cli("CLUSTER", "KEYSLOT", Keys(int(job[4:6])).due)
    old_id, new_id = (server.cli("CLUSTER", "MYID").decode() for server in (old, new))
    new.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
    old.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
    keys = old.cli("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    old.cli("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
    for server in (new, old):
        server.cli("CLUSTER", "SETSLOT", slot, "NODE", new_id)
