"""A body's own record holds all live jobs of that body, and who waits for each: it says which one a request gets."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import SOFT_KEY_SECONDS, UNCOUNTED, IdempotencyRecord
from gateway.jobs.facts import CancelAsked, OrderFailed
from gateway.jobs.job import Job
from gateway.store.base import Applied, Known, OverBudget
from gateway.store.bodies import MAX_ENTRIES, MAX_REFUSALS
from providers.faults import FaultKind
from tests.store import orders
from tests.store.worlds import LEASE, World


def first(caller: str | None = None, name: str = "digest-1") -> IdempotencyRecord:
    return orders.soft(attach=False, caller=caller, name=name)


def again(caller: str | None = None, name: str = "digest-1", retry: int = 1) -> IdempotencyRecord:
    return orders.soft(attach=retry, caller=caller, name=name)


async def left(world: World, *records: IdempotencyRecord, team: str = "acme") -> None:
    for record in records:
        await world.store.remove_caller(team, record)


async def failed(world: World, kind: FaultKind) -> Job:
    """With no seller left to try."""
    return await ended(world, await world.accepted(idempotency=first(), tries=1), kind)


async def ended(world: World, job: Job, kind: FaultKind = FaultKind.UNAVAILABLE) -> Job:
    job = await world.happens(job, orders.opened(job), OrderFailed(attempt=1, kind=kind))
    assert job.state.is_terminal
    return job


async def refused(world: World, *records: IdempotencyRecord) -> None:
    """Nothing is bought for these, each a job of its own, and their callers are told so."""
    jobs = [await world.accepted(idempotency=record, tries=1) for record in records]
    for job in jobs:
        await ended(world, job)


# --- repetitions


async def test_repetition_attaches_to_the_running_job(world: World) -> None:
    job = await world.accepted(idempotency=first())
    before = world.raw.balances()
    assert await world.tried(idempotency=again()) == Known(job.id)
    assert await world.store.recall("acme", again(retry=2)) == Known(job.id)
    assert (world.raw.balances(), world.raw.due().keys()) == (before, {job.id})


async def test_repetition_of_what_was_never_asked_is_a_new_job(world: World) -> None:
    assert await world.store.recall("acme", again()) is None
    assert await world.tried(idempotency=again()) == Applied()


async def test_ten_repetitions_get_ten_jobs(world: World) -> None:
    """Also before the gateway notices that the first connections broke."""
    records = [first() for _ in range(10)]
    jobs = [await world.accepted(idempotency=record) for record in records]
    for retry in (1, 2, 3):
        repeated = [again(retry=retry) for _ in range(10)]
        found = await asyncio.gather(*(world.store.recall("acme", one) for one in repeated))
        assert sorted(repr(one) for one in found) == sorted(repr(Known(job.id)) for job in jobs)
        if retry == 2:
            await left(world, *repeated)


async def test_ten_repetitions_whose_first_requests_never_came_make_ten_jobs(world: World) -> None:
    """None of them is another one's successor: an SDK counts its retries."""
    for _ in range(10):
        assert await world.store.recall("acme", again()) is None
        assert await world.tried(idempotency=again()) == Applied()
    found = [await world.tried(idempotency=first()) for _ in range(11)]
    assert len({repr(one) for one in found}) == 11
    assert found.count(Applied()) == 1


async def test_retry_takes_the_job_of_its_own_predecessor(world: World) -> None:
    """Not another one's, who still waits for the answer to its first request."""
    records = [first() for _ in range(3)]
    jobs = [await world.accepted(idempotency=record) for record in records]
    await left(world, records[1])
    for retry in (1, 2, 3):
        assert await world.store.recall("acme", again(retry=retry)) == Known(jobs[1].id)


async def test_retry_does_not_take_the_place_of_a_first_request_that_came_late(world: World) -> None:
    job = await world.accepted(idempotency=again())
    assert await world.tried(idempotency=first()) == Known(job.id)
    assert await world.store.recall("acme", again()) is None


async def test_repetition_takes_the_oldest_job_that_nobody_waits_for(world: World) -> None:
    records = [first() for _ in range(4)]
    jobs = [await world.accepted(idempotency=record) for record in records]
    await left(world, records[1], records[2])
    found = [await world.store.recall("acme", again()) for _ in range(4)]
    assert found == [Known(jobs[number].id) for number in (1, 2, 0, 3)]


async def test_repetition_prefers_a_running_job_to_one_that_has_ended(world: World) -> None:
    await world.bought(idempotency=first())
    running = await world.accepted(idempotency=first())
    assert await world.store.recall("acme", again()) == Known(running.id)


async def test_caller_that_asks_twice_is_one_caller(world: World) -> None:
    """As when the answer to the command was lost."""
    records = [first() for _ in range(2)]
    jobs = [await world.accepted(idempotency=record) for record in records]
    same = again("one:same")
    found = [await world.store.recall("acme", same) for _ in range(3)]
    assert found == [Known(jobs[0].id)] * 3
    assert await world.tried(idempotency=same) == Known(jobs[0].id)
    assert await world.store.recall("acme", again()) == Known(jobs[1].id)


async def test_departed_caller_is_counted_once_however_often_it_is_reported(world: World) -> None:
    gone, there = first(), first()
    jobs = [await world.accepted(idempotency=record) for record in (gone, there)]
    await left(world, gone, gone, replace(there, caller=there.caller[:-1]), again(), orders.key())
    assert await world.tried(idempotency=first()) == Known(jobs[0].id)
    assert await world.tried(idempotency=first()) == Applied()


@pytest.mark.parametrize("seconds", [1.0, 10 * SOFT_KEY_SECONDS])
async def test_repetition_attaches_as_long_as_the_job_runs(world: World, seconds: float) -> None:
    job = await world.accepted(idempotency=first())
    world.passes(seconds)
    assert await world.tried(idempotency=again()) == Known(job.id)


async def test_entry_outlives_its_job_for_two_minutes(world: World) -> None:
    job = await world.bought(idempotency=first())
    world.passes(SOFT_KEY_SECONDS - 1)
    assert await world.tried(idempotency=again()) == Known(job.id)
    world.passes(1)
    assert await world.tried(idempotency=again()) == Applied()


async def test_each_entry_ends_with_its_own_job(world: World) -> None:
    one = await world.accepted(idempotency=first())
    other = await world.accepted(idempotency=first())
    await world.happens(one, CancelAsked())
    world.passes(2 * SOFT_KEY_SECONDS)
    assert [await world.store.recall("acme", again()) for _ in range(2)] == [Known(other.id), None]


async def test_job_for_which_nothing_was_bought_leaves_at_once(world: World) -> None:
    await refused(world, first())
    assert await world.store.recall("acme", again()) is None
    assert await world.tried(idempotency=again()) == Applied()


# --- first askings


async def test_two_first_askings_of_one_body_are_two_jobs(world: World) -> None:
    assert [await world.tried(idempotency=first()) for _ in range(2)] == [Applied(), Applied()]


async def test_first_asking_that_comes_late_takes_the_job_that_its_repetition_made_once(world: World) -> None:
    job = await world.accepted(idempotency=again())
    assert await world.tried(idempotency=first()) == Known(job.id)
    assert await world.tried(idempotency=first()) == Applied()


async def test_of_many_late_first_askings_at_once_one_takes_it(world: World) -> None:
    job = await world.accepted(idempotency=again())
    outcomes = await asyncio.gather(*(world.tried(idempotency=first()) for _ in range(10)))
    assert (outcomes.count(Known(job.id)), outcomes.count(Applied())) == (1, 9)


async def test_job_still_awaits_its_first_asking_after_another_repetition(world: World) -> None:
    job = await world.accepted(idempotency=again())
    assert await world.store.recall("acme", again(retry=2)) == Known(job.id)
    assert await world.tried(idempotency=first()) == Known(job.id)


async def test_first_asking_takes_a_job_whose_caller_has_left(world: World) -> None:
    gone = first()
    job = await world.accepted(idempotency=gone)
    await left(world, gone)
    assert await world.tried(idempotency=first()) == Known(job.id)
    assert await world.tried(idempotency=first()) == Applied()


async def test_first_asking_takes_it_until_two_minutes_after_its_end(world: World) -> None:
    gone = first()
    job = await world.bought(idempotency=gone)
    await left(world, gone)
    world.passes(SOFT_KEY_SECONDS - 1)
    assert await world.tried(idempotency=first()) == Known(job.id)
    await left(world, gone)
    world.passes(1)
    assert await world.tried(idempotency=first()) == Applied()


async def test_first_asking_gets_what_ended_perhaps_bought_for_two_minutes(world: World) -> None:
    job = await failed(world, FaultKind.LOST)
    world.passes(SOFT_KEY_SECONDS - 1)
    assert [await world.tried(idempotency=first()) for _ in range(3)] == [Known(job.id)] * 3
    world.passes(1)
    assert await world.tried(idempotency=first()) == Applied()


@pytest.mark.parametrize("kind", [FaultKind.FAILED, FaultKind.CONTENT_REFUSED, FaultKind.EMPTY])
async def test_first_asking_is_a_new_job_after_any_other_end(world: World, kind: FaultKind) -> None:
    await failed(world, kind)
    assert await world.tried(idempotency=first()) == Applied()


async def test_first_asking_is_a_new_job_after_one_that_was_delivered(world: World) -> None:
    await world.bought(idempotency=first())
    assert await world.tried(idempotency=first()) == Applied()


async def test_attaching_needs_no_budget(world: World) -> None:
    gone = first()
    job = await world.accepted(idempotency=gone)
    await left(world, gone)
    assert await world.tried(idempotency=first(), day=1) == Known(job.id)


# --- after refusals


async def test_retry_of_a_refused_request_awaits_no_first_asking(world: World) -> None:
    await refused(world, first())
    job = await world.accepted(idempotency=again())
    assert [await world.tried(idempotency=first()) for _ in range(2)] == [Applied(), Applied()]
    assert await world.store.recall("acme", again(retry=2)) == Known(job.id)


async def test_chain_of_refused_retries_awaits_no_first_asking(world: World) -> None:
    for record in (first(), again(), again(retry=2)):
        await refused(world, record)
    await world.accepted(idempotency=again(retry=3))
    assert await world.tried(idempotency=first()) == Applied()


async def test_ten_refused_requests_their_retries_and_ten_first_askings_are_twenty_jobs(world: World) -> None:
    await refused(world, *(first() for _ in range(10)))
    retries = await asyncio.gather(*(world.tried(idempotency=again()) for _ in range(10)))
    firsts = await asyncio.gather(*(world.tried(idempotency=first()) for _ in range(10)))
    assert [*retries, *firsts] == [Applied()] * 20


@pytest.mark.parametrize("is_running", [True, False])
async def test_retry_of_a_refused_request_leaves_another_callers_job_alone(world: World, is_running: bool) -> None:
    """Whether that job runs, or was delivered."""
    await refused(world, first())
    other = await (world.accepted if is_running else world.bought)(idempotency=first())
    assert await world.store.recall("acme", again()) is None
    assert await world.tried(idempotency=again()) == Applied()
    assert await world.store.recall("acme", again()) == Known(other.id), "the retry of the other's caller"


async def test_retry_of_a_refused_request_gets_a_job_that_no_caller_waits_for(world: World) -> None:
    await refused(world, first())
    gone = first()
    job = await world.accepted(idempotency=gone)
    await left(world, gone)
    assert await world.store.recall("acme", again()) == Known(job.id)


async def test_retry_prefers_its_nearest_predecessor_to_a_refusal(world: World) -> None:
    await refused(world, first())
    job = await world.accepted(idempotency=again())
    await refused(world, first())
    assert await world.store.recall("acme", again(retry=2)) == Known(job.id)


async def test_refusal_is_followed_once(world: World) -> None:
    await refused(world, first())
    await world.accepted(idempotency=again())
    overtaking = await world.accepted(idempotency=again())
    assert await world.tried(idempotency=first()) == Known(overtaking.id)


async def test_refused_retry_whose_first_request_is_on_its_way_leaves_that_to_the_next(world: World) -> None:
    await refused(world, again())
    job = await world.accepted(idempotency=again(retry=2))
    assert await world.tried(idempotency=first()) == Known(job.id)


async def test_first_request_that_comes_between_refusals_gets_one_job_with_the_next_retry(world: World) -> None:
    await refused(world, again())
    job = await world.accepted(idempotency=first())
    assert await world.store.recall("acme", again(retry=2)) == Known(job.id)


async def test_first_request_that_came_late_to_a_refused_job_has_come(world: World) -> None:
    job = await world.accepted(idempotency=again(), tries=1)
    assert await world.tried(idempotency=first()) == Known(job.id)
    await ended(world, job)
    await world.accepted(idempotency=again(retry=2))
    assert await world.tried(idempotency=first()) == Applied()


async def test_refusal_of_a_client_that_does_not_count_says_nothing(world: World) -> None:
    await refused(world, orders.soft(attach=UNCOUNTED))
    job = await world.accepted(idempotency=again())
    assert await world.tried(idempotency=first()) == Known(job.id)


async def test_retry_takes_the_job_of_a_client_that_does_not_count_last(world: World) -> None:
    plain = await world.accepted(idempotency=orders.soft(attach=UNCOUNTED))
    counted = await world.accepted(idempotency=first())
    assert [await world.store.recall("acme", again()) for _ in range(2)] == [Known(counted.id), Known(plain.id)]


async def test_refusal_is_forgotten_after_two_minutes(world: World) -> None:
    await refused(world, first())
    world.passes(SOFT_KEY_SECONDS)
    job = await world.accepted(idempotency=again())
    assert await world.tried(idempotency=first()) == Known(job.id)


async def test_refusal_outlives_its_callers_connection_and_process(world: World) -> None:
    records = [first(), first()]
    await refused(world, *records)
    await left(world, records[0])
    await world.killed()
    asked = [again("two:1"), again("two:2"), first("two:3")]
    assert [await world.tried(idempotency=record) for record in asked] == [Applied()] * 3


async def test_retry_that_is_over_budget_leaves_the_refusal_to_the_next(world: World) -> None:
    await refused(world, first())
    assert isinstance(await world.tried(idempotency=again(), day=1), OverBudget)
    await world.accepted(idempotency=again(retry=2))
    assert await world.tried(idempotency=first()) == Applied()


async def test_retry_of_a_request_that_its_process_refused_awaits_no_first_asking(world: World) -> None:
    """That request never came to the store."""
    await world.accepted(idempotency=replace(again(), has_refused_first=True))
    assert await world.tried(idempotency=first()) == Applied()


async def test_oldest_of_too_many_refusals_is_dropped(world: World) -> None:
    await refused(world, *(first() for _ in range(MAX_REFUSALS + 1)))
    jobs = [await world.accepted(idempotency=again()) for _ in range(MAX_REFUSALS + 1)]
    found = [await world.tried(idempotency=first()) for _ in range(2)]
    assert found == [Known(jobs[-1].id), Applied()]


# --- whose callers


async def test_callers_of_an_owner_that_died_are_gone_when_the_job_is_claimed(world: World) -> None:
    record = first("one:first")
    job = await world.accepted(idempotency=record)
    world.passes(LEASE)
    await world.reopened("two")
    assert await world.claimable() == {job.id}
    assert await world.tried(idempotency=first()) == Known(job.id)


async def test_callers_elsewhere_and_of_other_jobs_stay_when_a_job_is_claimed(replicas: World) -> None:
    """The claimer itself, whose lease had only lapsed, has kept its connections, too."""
    world = replicas
    jobs = [await world.accepted(idempotency=first(f"one:{number}")) for number in range(2)]
    async with world.another("three") as three:
        assert await three.recall("acme", again("three:1")) == Known(jobs[0].id)
        world.passes(LEASE)
        assert await world.claimable() == {job.id for job in jobs}
        assert await world.tried(idempotency=first("three:2")) == Applied()
        world.passes(LEASE)
        await world.reopened("two")
        await world.claimable()
        found = [await world.tried(idempotency=first(f"two:{number}")) for number in range(2)]
        assert found == [Known(jobs[1].id), Applied()]


async def test_callers_of_a_killed_process_are_gone_at_once(world: World) -> None:
    """Each of its jobs is for one who asks again; a Cluster's servers cannot tell before the job is claimed."""
    jobs = [await world.accepted(idempotency=first("one:1")), await world.accepted(idempotency=first("one:2"))]
    await world.killed()
    found = [await world.tried(idempotency=first(f"two:{number}")) for number in range(3)]
    at_once = [Applied()] * 3 if world.kind == "clustered" else [Known(jobs[0].id), Known(jobs[1].id), Applied()]
    assert found == at_once


async def test_callers_of_a_second_killed_process_are_gone_too(world: World) -> None:
    """Though the job is still the first one's."""
    if world.kind == "clustered":
        return
    job = await world.accepted(idempotency=first("one:1"))
    for owner in ("two", "three", "four"):
        await world.killed(owner)
        assert await world.tried(idempotency=first(f"{owner}:1")) == Known(job.id)


async def test_callers_of_a_killed_process_are_gone_from_jobs_that_have_ended(world: World) -> None:
    """They may not have been answered. A Cluster's servers cannot tell, and the job is not claimed any more."""
    job = await world.bought(idempotency=first("one:1"))
    await world.killed()
    found = [await world.tried(idempotency=first(f"two:{number}")) for number in range(2)]
    assert found == [Applied() if world.kind == "clustered" else Known(job.id), Applied()]


async def test_callers_of_a_closed_process_stay_at_jobs_that_have_ended(world: World) -> None:
    """Also after the next one was killed."""
    await world.bought(idempotency=first("one:1"))
    await world.reopened("two")
    assert await world.tried(idempotency=first("two:1"), tries=1) == Applied()
    await world.killed("three")
    found = [await world.tried(idempotency=first(f"three:{number}")) for number in range(2)]
    assert [type(one) for one in found] == [Applied if world.kind == "clustered" else Known, Applied]


async def test_callers_of_a_process_that_closed_in_good_order_stay(world: World) -> None:
    """It answered them, with 202, and gave their job away."""
    job = await world.accepted(idempotency=first("one:1"))
    assert await world.store.snooze(job.id, 1, 0.0)
    await world.reopened("two")
    assert await world.claimable() == {job.id}
    assert await world.tried(idempotency=first("two:1")) == Applied()


async def test_callers_of_a_living_replica_stay(replicas: World) -> None:
    async with replicas.another("two") as two:
        await replicas.accepted(idempotency=first("one:1"))
        assert await two.commit(replicas.acceptance(idempotency=first("two:1"))) == Applied()


# --- apart


async def test_bodies_of_teams_are_apart(world: World) -> None:
    ours, neighbour = orders.teams_of_one_partition(2)
    await world.accepted(ours, idempotency=again())
    assert await world.store.recall(neighbour, again()) is None
    assert await world.tried(neighbour, idempotency=first()) == Applied()


async def test_bodys_record_is_never_a_callers_key(world: World) -> None:
    """Though the two look alike."""
    await world.accepted(idempotency=first(name="same"))
    assert await world.tried(idempotency=orders.key("same", "same")) == Applied()


async def test_callers_key_does_not_end_with_its_job(world: World) -> None:
    job = await world.bought(idempotency=orders.key())
    world.passes(10 * SOFT_KEY_SECONDS)
    assert await world.tried(idempotency=orders.key()) == Known(job.id)


async def test_record_holds_so_many_jobs_and_the_oldest_that_ended_makes_room(world: World) -> None:
    await refused(world, first())
    records = [first() for _ in range(MAX_ENTRIES)]
    jobs = [await world.accepted(idempotency=record) for record in records]
    await world.happens(jobs[3], orders.opened(jobs[3]), orders.ticket(), orders.delivered(jobs[3]))
    records.append(first())
    jobs.append(await world.accepted(idempotency=records[-1]))
    records.append(first())
    jobs.append(await world.accepted(idempotency=records[-1]))
    await left(world, *records)
    found = [await world.store.recall("acme", again()) for _ in range(MAX_ENTRIES)]
    kept = [job for number, job in enumerate(jobs) if number not in (0, 3)]
    assert found == [Known(job.id) for job in kept]
    assert await world.store.recall("acme", again()) is None
