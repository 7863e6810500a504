"""A commit that was sent twice, or whose answer was lost, is done once."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import Commit
from gateway.jobs.facts import AnswerLost, CallbackSeen, PicturesReady
from gateway.jobs.job import Job
from gateway.store.base import REMEMBERED_OPS, Applied, Stale
from tests.store import orders
from tests.store.orders import CEILING
from tests.store.worlds import LEASE, World


async def seven_more(world: World, job: Job) -> Job:
    """As many commits as are remembered beside the one before them; the job settles with the last."""
    job = await world.happens(
        job,
        orders.opened(job),
        AnswerLost(attempt=1),
        CallbackSeen(attempt=1),
        orders.ticket(),
        PicturesReady(attempt=1),
        PicturesReady(attempt=1, cost=41_000),
        orders.delivered(job),
    )
    assert job.is_settled
    return job


def full(world: World) -> Commit:
    """With all that an acceptance may bring, and a limit that it uses up."""
    return world.acceptance(n=2, webhook=True, day=2 * CEILING, idempotency=orders.key(), documents={"request": b"{}"})


@pytest.mark.parametrize("times", [1, 2, 9])
async def test_an_acceptance_repeated_at_once_is_applied_and_changes_nothing_more(world: World, times: int) -> None:
    """Although its key is known and its limit is used up by then: itself comes before all else."""
    asked = full(world)
    await world.done(asked)
    assert await world.unchanged_by(*[asked] * times) == [Applied()] * times


@pytest.mark.parametrize("seconds", [0.0, LEASE, 3600.0])
async def test_an_acceptance_is_known_after_seven_more_changes(world: World, seconds: float) -> None:
    asked = full(world)
    await seven_more(world, await world.done(asked))
    world.passes(seconds)
    assert await world.unchanged_by(asked, asked) == [Applied(), Applied()]


async def test_each_of_the_last_eight_changes_knows_itself(world: World) -> None:
    job = await world.accepted(webhook=True)
    commits = []
    for happening in (
        orders.opened(job),
        AnswerLost(attempt=1),
        CallbackSeen(attempt=1),
        orders.ticket(),
        PicturesReady(attempt=1),
        PicturesReady(attempt=1, cost=41_000),
        PicturesReady(attempt=1, cost=42_000),
        orders.delivered(job),
    ):
        commits.append(orders.changed(job, happening, world.now))
        job = await world.done(commits[-1])
    assert len(commits) == REMEMBERED_OPS
    assert await world.unchanged_by(*commits, *reversed(commits)) == [Applied()] * 2 * REMEMBERED_OPS


async def test_a_decision_repeated_after_the_job_has_changed_hands_is_still_applied(world: World) -> None:
    job = await world.accepted()
    opening = orders.changed(job, orders.opened(job), world.now)
    await world.done(opening)
    world.passes(LEASE)
    assert await world.claimable() == {job.id}
    assert await world.unchanged_by(opening) == [Applied()]


async def test_a_repeated_change_gives_no_lease_back_to_whom_it_was_taken_from(world: World) -> None:
    job = await world.accepted()
    opening = orders.changed(job, orders.opened(job), world.now)
    job = await world.done(opening)
    assert await world.store.snooze(job.id, 1, 100.0)
    assert await world.store.commit(opening) == Applied()
    world.passes(100.0)
    (claimed,) = await world.store.claim()
    assert (claimed.job.id, claimed.fence) == (job.id, 2)


async def test_the_same_commit_sent_many_times_at_once_is_done_once(world: World) -> None:
    asked = full(world)
    assert await asyncio.gather(*(world.store.commit(asked) for _ in range(20))) == [Applied()] * 20
    job = asked.job
    opening = orders.changed(job, orders.opened(job), world.now)
    assert await asyncio.gather(*(world.store.commit(opening) for _ in range(20))) == [Applied()] * 20
    assert await world.store.load(job.id) == opening.job
    assert [one.number for one in await world.store.milestones(job.id)] == [1, 2]


async def test_of_two_changes_of_the_same_version_the_second_is_stale_though_it_says_the_same_thing(
    world: World,
) -> None:
    """Two replicas learn of the same callback a moment apart: two changes, and one of them has to look again."""
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job))
    first = orders.changed(job, CallbackSeen(attempt=1), world.now)
    second = orders.changed(job, CallbackSeen(attempt=1), world.now + 0.001)
    await world.done(first)
    assert await world.unchanged_by(second) == [Stale()]


async def test_whoever_awaits_a_commit_may_be_cancelled_and_it_is_still_done(world: World) -> None:
    asked = full(world)
    waiting = asyncio.create_task(world.store.commit(asked))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store = await world.reopened()
    assert await store.load(asked.job.id) == asked.job


async def test_a_document_that_is_dropped_and_written_in_one_step_is_there(world: World) -> None:
    job = await world.accepted(documents={"a": b"1"})
    commit = orders.changed(job, orders.opened(job), world.now)
    await world.done(replace(commit, documents={"a": b"2"}, dropped=("a",)))
    assert await world.store.documents(job.id, "a") == {"a": b"2"}
