"""One of a Cluster's nodes dies and nobody takes its place: what lies on the others goes on, the rest waits for it."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, StoreUnavailable
from gateway.store.partitions import partition_of
from gateway.store.redis import RedisStore
from gateway.store.redis.keys import Keys
from tests.store import orders, servers
from tests.store.orders import NOON, Clock
from tests.store.redis.clusters import joined, state, until
from tests.store.redis.stories import opened, run
from tests.store.servers import Server
from tests.store.worlds import LEASE

HALF = servers.SLOTS // 2
# A node that does not answer may cost a caller some seconds once, while the map is drawn anew.
SOON = 30.0
GOES_ON = 5
# Otherwise a Cluster that is not whole refuses everything, wherever it lies.
PARTIAL = ("--cluster-require-full-coverage", "no")


def test_what_lies_on_a_dead_node_waits_for_it_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def story(first: Server, second: Server) -> None:
        here, there = (_team_in(first, slots) for slots in ((0, HALF), (HALF, servers.SLOTS)))
        clock = Clock()
        async with opened(first.url, clock=clock) as store:
            jobs = {team: orders.acceptance(NOON, team) for team in (here, there)}
            for commit in jobs.values():
                assert await store.commit(commit) == Applied()
            second.kill()
            await _goes_on(store, here)
            clock.now += LEASE + 1
            claimed = {one.job.id for one in await store.claim()}
            assert jobs[here].job.id in claimed
            assert len(claimed) == 1 + GOES_ON
            assert await store.beat({jobs[here].job.id: 2}) == frozenset()
            second.start()
            assert await _in_time(store, there) == Applied()
            assert await store.load(jobs[there].job.id) == jobs[there].job
            rescued = await _claimed_in_time(store)
            assert jobs[there].job.id in rescued

    with (
        servers.clustered(tmp_path / "first", *PARTIAL) as first,
        servers.clustered(tmp_path / "second", *PARTIAL) as second,
    ):
        joined(first, second)
        _halve(first, second)
        run(story(first, second))


async def _goes_on(store: RedisStore, team: str) -> None:
    began = time.monotonic()
    opening: Commit | None = None
    for _ in range(GOES_ON):
        accepted = orders.acceptance(NOON, team)
        assert await store.commit(accepted) == Applied()
        opening = orders.changed(accepted.job, orders.opened(accepted.job), NOON)
        assert await store.commit(opening) == Applied()
    assert time.monotonic() - began < SOON


async def _in_time(store: RedisStore, team: str) -> object:
    """Once the node is back: until it is known to be, it is said that it is not."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        with suppress(StoreUnavailable):
            return await store.commit(orders.acceptance(NOON, team))
        await asyncio.sleep(0.2)
    return None


async def _claimed_in_time(store: RedisStore) -> set[str]:
    deadline, found = time.monotonic() + SOON, set[str]()
    while not found and time.monotonic() < deadline:
        found = {claimed.job.id for claimed in await store.claim()}
    return found


def _team_in(server: Server, slots: tuple[int, int]) -> str:
    for team in orders.teams_of_different_partitions(64):
        slot = int(server.cli("CLUSTER", "KEYSLOT", Keys(partition_of(team)).due))
        if slots[0] <= slot < slots[1]:
            return team
    raise AssertionError("no partition lies there")


def _halve(first: Server, second: Server) -> None:
    """Nothing lies there yet, so the second half is given away by saying so."""
    for server in (first, second):
        server.cli("CLUSTER", "DELSLOTSRANGE", HALF, servers.SLOTS - 1)
    second.cli("CLUSTER", "ADDSLOTSRANGE", HALF, servers.SLOTS - 1)
    second.cli("CLUSTER", "BUMPEPOCH")
    until(lambda: all(state(server)["cluster_size"] == "2" for server in (first, second)))
