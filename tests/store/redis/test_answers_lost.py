"""Answers that never come, commands that are sent twice, callers that leave: each commit is done, and once."""

import asyncio

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied
from tests.store import orders
from tests.store.orders import NOON
from tests.store.redis.meddler import Meddler
from tests.store.redis.stories import balance, opened, run, violations
from tests.store.servers import Server

pytestmark = pytest.mark.usefixtures("emptied")


def life() -> list[Commit]:
    """Every commit of one job, in order."""
    commits = [orders.acceptance(NOON)]
    for happening in (orders.opened(commits[0].job), orders.ticket(), orders.delivered(commits[0].job)):
        commits.append(orders.changed(commits[-1].job, happening, NOON))
    return commits


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_lost_answer_is_asked_for_again_and_the_commit_is_done_once(single_server: Server, times: int) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            for commit in life():
                meddler.lose_answers = times
                assert await store.commit(commit) == Applied()
                assert meddler.lose_answers == 0
            assert await store.load(commit.job.id) == commit.job
            assert (await balance(store)).spent == orders.PRICE
            assert [milestone.number for milestone in await store.milestones(commit.job.id)] == [1, 2, 3, 4]
            assert await violations(store) == 0

    run(story())


@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_command_is_sent_again(single_server: Server, times: int) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            for commit in life():
                meddler.lose_commands = times
                assert await store.commit(commit) == Applied()
            assert (await balance(store)).spent == orders.PRICE
            assert await violations(store) == 0

    run(story())


def test_a_claim_whose_answer_is_lost_is_still_ours(single_server: Server) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url, lease=0.0) as store:
            job = orders.acceptance(NOON).job
            await store.commit(orders.acceptance(NOON, id=job.id))
            found = await store.claim()
            assert [(claimed.job.id, claimed.fence, claimed.rescues) for claimed in found] == [(job.id, 2, 1)]
            meddler.lose_answers = 2
            found = await store.claim()
            assert [(claimed.job.id, claimed.fence, claimed.rescues) for claimed in found] == [(job.id, 3, 2)]

    run(story())


def test_a_retried_command_changes_nothing_more(single_server: Server) -> None:
    """By the same process and by another, one after the other and all at once, early and late."""

    async def story() -> None:
        async with opened(single_server.url) as store, opened(single_server.url) as other:
            done: list[Commit] = []
            for commit in life():
                done.append(commit)
                assert await store.commit(commit) == Applied()
                again = [each.commit(one) for one in done for each in (store, other) for _ in range(10)]
                assert set(await asyncio.gather(*again)) == {Applied()}
            assert (await balance(store)).spent == orders.PRICE
            assert len(await store.ledger(orders.DAY)) == 1
            assert len(await store.milestones(commit.job.id)) == 4
            assert await violations(store) == 0

    run(story())


def test_a_caller_that_is_cancelled_has_committed_all_the_same(single_server: Server) -> None:
    """At whatever point it is cancelled; and no connection is lost by it."""

    async def story() -> None:
        async with opened(single_server.url) as store:
            commits = [orders.acceptance(NOON, f"team-{number % 7}") for number in range(200)]
            callers = [asyncio.create_task(store.commit(commit)) for commit in commits]
            await asyncio.sleep(0)
            for number, caller in enumerate(callers):
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert sum(isinstance(end, asyncio.CancelledError) for end in ended) > 20
            assert await store.commit(orders.acceptance(NOON)) == Applied()
            assert len(single_server.cli("CLIENT", "LIST").splitlines()) < 10
        async with opened(single_server.url) as store:
            assert [await store.load(commit.job.id) for commit in commits] == [commit.job for commit in commits]
            assert await violations(store) == 0

    run(story())


def test_what_was_handed_over_is_written_before_closing(single_server: Server) -> None:
    async def story() -> None:
        commit = orders.acceptance(NOON)
        async with opened(single_server.url) as store:
            caller = asyncio.create_task(store.commit(commit))
            await asyncio.sleep(0)
            caller.cancel()
        async with opened(single_server.url) as store:
            assert await store.load(commit.job.id) == commit.job

    run(story())
