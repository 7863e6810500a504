"""Lost replies, repeated commands, cancelled callers: each commit is applied exactly once."""

import asyncio

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.faulty_proxy import FaultyProxy
from tests.store.redis.redis_stores import count_discrepancies, load_day_balance, open_store, run_async
from tests.store.redis_servers import RedisServer

pytestmark = pytest.mark.usefixtures("empty_redis")


def make_job_commits() -> list[Commit]:
    """Returns all commits of one job, in order."""
    commits = [job_factory.make_create_commit(NOON)]
    for update in (
        job_factory.make_attempt_started(commits[0].job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(commits[0].job),
    ):
        commits.append(job_factory.make_update_commit(commits[-1].job, update, NOON))
    return commits


@pytest.mark.one_in(3)
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("counter", ["replies_to_lose", "commands_to_lose"])
def test_commit_with_lost_command_or_reply_is_resent_and_applied_once(
    single_server: RedisServer, counter: str, times: int
) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url) as store:
            for commit in make_job_commits():
                setattr(proxy, counter, times)
                assert await store.commit(commit) == Applied()
                assert getattr(proxy, counter) == 0
            assert await store.load_job(commit.job.id) == commit.job
            assert (await load_day_balance(store)).spent == job_factory.PRICE
            assert [milestone.number for milestone in await store.list_milestones(commit.job.id)] == [1, 2, 3, 4]
            assert await count_discrepancies(store) == 0

    run_async(scenario())


def test_claim_with_lost_reply_still_returns_the_job(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, lease=0.0) as store:
            job = job_factory.make_create_commit(NOON).job
            await store.commit(job_factory.make_create_commit(NOON, id=job.id))
            claimed_jobs = await store.claim_jobs()
            assert [(claimed.job.id, claimed.fence, claimed.reclaims) for claimed in claimed_jobs] == [(job.id, 2, 1)]
            proxy.replies_to_lose = 2
            claimed_jobs = await store.claim_jobs()
            assert [(claimed.job.id, claimed.fence, claimed.reclaims) for claimed in claimed_jobs] == [(job.id, 3, 2)]

    run_async(scenario())


def test_repeated_commits_change_nothing(single_server: RedisServer) -> None:
    """Repeated by the same and another process, one by one and all at once, early and late."""

    async def scenario() -> None:
        async with open_store(single_server.url) as store, open_store(single_server.url) as other:
            commits: list[Commit] = []
            for commit in make_job_commits():
                commits.append(commit)
                assert await store.commit(commit) == Applied()
                repetitions = [
                    replica.commit(earlier) for earlier in commits for replica in (store, other) for _ in range(10)
                ]
                assert set(await asyncio.gather(*repetitions)) == {Applied()}
            assert (await load_day_balance(store)).spent == job_factory.PRICE
            assert len(await store.list_ledger_entries(job_factory.DAY)) == 1
            assert len(await store.list_milestones(commit.job.id)) == 4
            assert await count_discrepancies(store) == 0

    run_async(scenario())


def test_cancelled_caller_still_commits(single_server: RedisServer) -> None:
    """The caller may be cancelled at any point, and no connection is lost."""

    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            commits = [job_factory.make_create_commit(NOON, f"team-{number % 7}") for number in range(200)]
            callers = [asyncio.create_task(store.commit(commit)) for commit in commits]
            await asyncio.sleep(0)
            for number, caller in enumerate(callers):
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                caller.cancel()
            results = await asyncio.gather(*callers, return_exceptions=True)
            assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 20
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
            assert len(single_server.execute("CLIENT", "LIST").splitlines()) < 10
        async with open_store(single_server.url) as store:
            assert [await store.load_job(commit.job.id) for commit in commits] == [commit.job for commit in commits]
            assert await count_discrepancies(store) == 0

    run_async(scenario())


def test_close_writes_pending_commits_first(single_server: RedisServer) -> None:
    async def scenario() -> None:
        commit = job_factory.make_create_commit(NOON)
        async with open_store(single_server.url) as store:
            caller = asyncio.create_task(store.commit(commit))
            await asyncio.sleep(0)
            caller.cancel()
        async with open_store(single_server.url) as store:
            assert await store.load_job(commit.job.id) == commit.job

    run_async(scenario())
