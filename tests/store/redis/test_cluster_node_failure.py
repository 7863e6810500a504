"""One node of a Cluster fails and is not replaced: jobs on other nodes continue, the rest waits for it."""

import time
from pathlib import Path

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, StoreUnavailable
from gateway.store.partitions import team_partition
from gateway.store.redis import RedisStore
from gateway.store.redis.keys import PartitionKeys
from tests.harness.manual_clock import ManualClock
from tests.harness.wait import wait_for_value_async
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.redis.cluster_nodes import join_nodes, move_empty_slots, wait_for_size
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis_servers import RedisServer
from tests.store.store_harness import LEASE_SECONDS

HALF_SLOTS = redis_servers.SLOT_COUNT // 2
# A failed node may delay one caller by some seconds, while the client reads the new slot map.
RECOVERY_SECONDS = 30.0
JOB_COUNT = 5
# Otherwise an incomplete Cluster refuses all commands.
PARTIAL_COVERAGE = ("--cluster-require-full-coverage", "no")


@pytest.mark.thorough
@pytest.mark.parametrize("failed_node", ["first", "second"])
def test_jobs_on_a_failed_node_wait_and_other_jobs_continue(tmp_path: Path, failed_node: str) -> None:
    """The driver asks the first node for the commands that there are, each time that it connects again."""

    async def scenario(first: RedisServer, second: RedisServer) -> None:
        teams = [_find_team(first, slots) for slots in ((0, HALF_SLOTS), (HALF_SLOTS, redis_servers.SLOT_COUNT))]
        failed, live_node_team, failed_node_team = (
            (first, teams[1], teams[0]) if failed_node == "first" else (second, teams[0], teams[1])
        )
        clock = ManualClock(NOON)
        async with open_store(first.url, clock=clock) as store:
            jobs = {team: job_factory.make_create_commit(NOON, team) for team in (live_node_team, failed_node_team)}
            for commit in jobs.values():
                assert await store.commit(commit) == Applied()
            failed.kill()
            await _commit_jobs(store, live_node_team)
            clock.now += LEASE_SECONDS + 1
            claimed = {claim.job.id for claim in await store.claim_jobs()}
            assert jobs[live_node_team].job.id in claimed
            assert len(claimed) == 1 + JOB_COUNT
            assert await store.renew_leases({jobs[live_node_team].job.id: 2}) == frozenset()
            failed.start()
            assert await _commit_until_available(store, failed_node_team) == Applied()
            assert await store.load_job(jobs[failed_node_team].job.id) == jobs[failed_node_team].job
            reclaimed = await _claim_until_found(store)
            assert jobs[failed_node_team].job.id in reclaimed

    with (
        redis_servers.run_cluster_server(tmp_path / "first", *PARTIAL_COVERAGE) as first,
        redis_servers.run_cluster_server(tmp_path / "second", *PARTIAL_COVERAGE) as second,
    ):
        join_nodes(first, second)
        move_empty_slots((first, second), second, HALF_SLOTS, redis_servers.SLOT_COUNT)
        wait_for_size((first, second), 2)
        run_async(scenario(first, second))


async def _commit_jobs(store: RedisStore, team: str) -> None:
    started_at = time.monotonic()
    start: Commit | None = None
    for _ in range(JOB_COUNT):
        creation = job_factory.make_create_commit(NOON, team)
        assert await store.commit(creation) == Applied()
        start = job_factory.make_update_commit(creation.job, job_factory.make_attempt_started(creation.job), NOON)
        assert await store.commit(start) == Applied()
    assert time.monotonic() - started_at < RECOVERY_SECONDS


async def _commit_until_available(store: RedisStore, team: str) -> object:
    """Commits once the node is available again. Until the client notices, StoreUnavailable is right."""

    async def commit() -> object:
        try:
            return await store.commit(job_factory.make_create_commit(NOON, team))
        except StoreUnavailable as error:
            return error

    return await wait_for_value_async(
        commit, lambda result: not isinstance(result, StoreUnavailable), "the node commits", RECOVERY_SECONDS
    )


async def _claim_until_found(store: RedisStore) -> set[str]:
    async def claim_jobs() -> set[str]:
        return {claim.job.id for claim in await store.claim_jobs()}

    return await wait_for_value_async(claim_jobs, bool, "a job can be claimed", RECOVERY_SECONDS)


def _find_team(server: RedisServer, slots: tuple[int, int]) -> str:
    for team in job_factory.pick_teams_of_different_partitions(64):
        slot = int(server.execute("CLUSTER", "KEYSLOT", PartitionKeys(team_partition(team)).due))
        if slots[0] <= slot < slots[1]:
            return team
    raise AssertionError("no partition is on that node")
