"""A Redis that is there and cannot, or is away for a while: nothing is half done, and it goes on when it can again."""

import asyncio
import time
from pathlib import Path

import pytest
import redis

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, Known, StoreFull, StoreUnavailable
from gateway.store.redis import lane
from tests.store import orders, servers
from tests.store.orders import NOON
from tests.store.redis.meddler import Meddler, refusing
from tests.store.redis.stories import balance, opened, run, violations
from tests.store.servers import Server

PASSING = (
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "BUSY Redis is busy running a script.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
)
LASTING = ("NOAUTH Authentication required.", "NOPERM this user has no permissions", "ERR something else")


@pytest.mark.parametrize("word", PASSING, ids=lambda word: word.split()[0])
def test_what_passes_by_itself_is_waited_for(emptied: None, single_server: Server, word: str) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            meddler.instead = refusing(word, times=3)
            commit = orders.acceptance(NOON)
            assert await store.commit(commit) == Applied()
            assert await store.load(commit.job.id) == commit.job

    run(story())


@pytest.mark.parametrize("word", [*PASSING, *LASTING], ids=lambda word: word.split()[0])
def test_what_does_not_pass_is_said_and_nothing_is_done(
    emptied: None, single_server: Server, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(lane, "PATIENCE_SECONDS", 0.3)

    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            meddler.instead = refusing(word, times=10_000)
            commit = orders.acceptance(NOON)
            with pytest.raises(StoreUnavailable):
                await store.commit(commit)
            meddler.instead = None
            assert await store.load(commit.job.id) is None
            assert await store.commit(commit) == Applied()

    run(story())


def test_a_replica_that_became_writable_is_written_to(emptied: None, single_server: Server) -> None:
    """READONLY, from a real server that is made a replica and promoted again."""

    async def story() -> None:
        async with opened(single_server.url) as store:
            commit = await asyncio.to_thread(_made_read_only, single_server)
            writing = asyncio.create_task(store.commit(commit))
            await asyncio.sleep(0.3)
            assert not writing.done()
            await asyncio.to_thread(single_server.cli, "REPLICAOF", "NO", "ONE")
            assert await writing == Applied()

    run(story())


def _made_read_only(server: Server) -> Commit:
    server.cli("REPLICAOF", "127.0.0.1", "1")
    return orders.acceptance(NOON)


def test_a_full_memory_refuses_new_jobs_and_still_records_facts(emptied: None, single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            first = orders.acceptance(NOON, idempotency=orders.key())
            assert await store.commit(first) == Applied()
            held = await balance(store)
            single_server.cli("CONFIG", "SET", "maxmemory", "1mb")
            try:
                refused = orders.acceptance(NOON)
                with pytest.raises(StoreFull, match="maxmemory"):
                    await store.commit(refused)
                assert await balance(store) == held
                assert await store.recall(first.job.team, orders.key()) == Known(first.job.id)
                job = first.job
                for happening in (orders.opened(job), orders.ticket(), orders.delivered(job)):
                    commit = orders.changed(job, happening, NOON)
                    assert await store.commit(commit) == Applied()
                    job = commit.job
                assert await store.load(job.id) == job
                assert job.is_settled
                assert (await balance(store)).spent == orders.PRICE
            finally:
                single_server.cli("CONFIG", "SET", "maxmemory", "0")
            assert await store.load(refused.job.id) is None
            assert await store.commit(refused) == Applied()
            assert await violations(store) == 0

    run(story())


def test_renewal_fails_if_no_server_took_it(
    emptied: None, single_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "PATIENCE_SECONDS", 0.3)

    async def story() -> None:
        async with opened(single_server.url) as store:
            teams = orders.teams_of_different_partitions(3)
            leases = {commit.job.id: 1 for commit in (orders.acceptance(NOON, team) for team in teams)}
            single_server.stop()
            try:
                with pytest.raises(StoreUnavailable):
                    await store.beat(leases)
                assert await store.beat({}) == frozenset(), "nothing was to be renewed"
            finally:
                single_server.start()

    run(story())


def test_forgotten_scripts_are_sent_again(emptied: None, single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            for _ in range(3):
                single_server.cli("SCRIPT", "FLUSH")
                commits = [orders.acceptance(NOON, f"team-{number}") for number in range(20)]
                assert set(await asyncio.gather(*map(store.commit, commits))) == {Applied()}
            single_server.cli("SCRIPT", "FLUSH")
            assert len((await store.list("team-0")).jobs) == 3
            assert await violations(store) == 0

    run(story())


def test_a_server_that_is_gone_and_back_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed with commits under way; what was acknowledged is there, and whoever waited is answered."""

    async def story(server: Server) -> None:
        async with opened(server.url) as store, opened(server.url, owner="other") as other:
            before = orders.acceptance(NOON)
            assert await store.commit(before) == Applied()
            with other.watch(before.job.id) as watch:
                await asyncio.to_thread(server.kill)
                during = [orders.acceptance(NOON, f"team-{number}") for number in range(30)]
                writing = [asyncio.create_task(store.commit(commit)) for commit in during]
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.start)
                assert set(await asyncio.gather(*writing)) == {Applied()}
                changed = orders.changed(before.job, orders.opened(before.job), NOON)
                assert await store.commit(changed) == Applied()
                assert await watch.changed(5)
            assert await other.load(before.job.id) == changed.job
            assert all([await other.load(commit.job.id) == commit.job for commit in during])
            assert await violations(store) == 0

    with servers.single(tmp_path) as server:
        run(story(server))


def test_a_server_that_stays_away_is_said_to_and_the_same_commit_is_right_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "PATIENCE_SECONDS", 0.5)

    async def story(server: Server) -> None:
        async with opened(server.url) as store:
            commit = orders.acceptance(NOON)
            await asyncio.to_thread(server.kill)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.commit(commit)
            assert time.monotonic() - began < 5
            with pytest.raises(StoreUnavailable):
                await store.load(commit.job.id)
            await asyncio.to_thread(server.start)
            assert await store.commit(commit) == Applied()

    with servers.single(tmp_path) as server:
        run(story(server))


def test_a_server_that_hangs_is_given_up_in_time(emptied: None, single_server: Server) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            meddler.flowing.clear()
            commit = orders.acceptance(NOON)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.commit(commit)
            assert time.monotonic() - began < 15
            meddler.flowing.set()
            assert await store.commit(commit) == Applied()

    run(story())


def test_a_server_that_loads_its_data_is_waited_for(tmp_path: Path) -> None:
    """LOADING, from a real server that takes its time to read what it kept."""

    async def story(server: Server) -> None:
        async with opened(server.url) as store:
            commits = [orders.acceptance(NOON, f"team-{number}") for number in range(100)]
            assert set(await asyncio.gather(*map(store.commit, commits))) == {Applied()}
            await asyncio.to_thread(_rewritten, server)
            await asyncio.to_thread(server.kill)
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            seen = asyncio.create_task(asyncio.to_thread(_is_seen_loading, server))
            later = orders.acceptance(NOON)
            assert await store.commit(later) == Applied()
            await starting
            assert await seen
            assert [await store.load(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    slow = ("--key-load-delay", "2500", "--loading-process-events-interval-bytes", "1024")
    with servers.single(tmp_path, *slow) as server:
        run(story(server))


def _rewritten(server: Server) -> None:
    """Only the compact form of the file is read slowly on demand."""
    server.cli("BGREWRITEAOF")
    while (said := server.cli("INFO", "persistence"))["aof_rewrite_in_progress"] or said["aof_rewrite_scheduled"]:
        time.sleep(0.01)


def _is_seen_loading(server: Server) -> bool:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            server.cli("PING")
        except redis.exceptions.BusyLoadingError:
            return True
        except redis.ConnectionError:
            continue
    return False
