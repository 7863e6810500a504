"""Who may decide about a job, until when, and who looks after it then."""

import pytest

from gateway.jobs.facts import AnswerLost, CallbackSeen, CancelAsked, JobConfirmed, JobExpired
from gateway.store.base import (
    BEATS_PER_LEASE,
    EARLY_DEATHS,
    LONGEST_LEASE,
    Applied,
    Claimed,
    Fenced,
    lease_for,
    survival_seconds,
)
from tests.store import orders
from tests.store.worlds import LEASE, World

BEAT = LEASE / BEATS_PER_LEASE


async def test_each_claim_gives_a_new_fence_and_counts_one_more_rescue(world: World) -> None:
    job = await world.accepted()
    for rescues in (1, 2, 3):
        world.passes(LEASE)
        assert await world.store.claim() == (Claimed(job=job, fence=1 + rescues, rescues=rescues),)


async def test_a_decision_of_the_new_owner_starts_the_count_of_rescues_anew(world: World) -> None:
    job = await world.accepted()
    for _ in range(2):
        world.passes(LEASE)
        assert len(await world.store.claim()) == 1
    job = await world.happens(job, orders.opened(job, fence=3))
    world.passes(LEASE)
    assert await world.store.claim() == (Claimed(job=job, fence=4, rescues=1),)


async def test_a_fact_starts_the_count_of_rescues_anew(world: World) -> None:
    """Whoever brings it: somebody got on with the job."""
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job))
    world.passes(LEASE)
    await world.claimable()
    job = await world.happens(job, CallbackSeen(attempt=1))
    world.passes(LEASE)
    assert await world.store.claim() == (Claimed(job=job, fence=3, rescues=1),)


async def test_what_is_claimed_is_left_alone_until_its_new_lease_ends(world: World) -> None:
    job = await world.accepted()
    world.passes(LEASE)
    assert await world.claimable() == {job.id}
    assert await world.claimable() == set()
    world.passes(LEASE - 0.01)
    assert await world.claimable() == set()
    world.passes(0.01)
    assert await world.claimable() == {job.id}


async def test_jobs_are_claimed_soonest_first_across_all_partitions(world: World) -> None:
    teams = orders.teams_of_different_partitions(5)
    by_time = []
    for team in (teams[3], teams[0], teams[4], teams[1], teams[2]):
        by_time.append(await world.accepted(team))
        world.passes(1.0)
    world.passes(LEASE)
    first = await world.store.claim(most=2)
    rest = await world.store.claim()
    assert [claimed.job for claimed in (*first, *rest)] == by_time
    assert len(first) == 2


async def test_jobs_of_one_team_are_claimed_soonest_first(world: World) -> None:
    by_time = []
    for _ in range(5):
        by_time.append(await world.accepted())
        world.passes(0.001)
    world.passes(LEASE)
    assert [claimed.job for claimed in await world.store.claim(most=3)] == by_time[:3]
    assert [claimed.job for claimed in await world.store.claim(most=3)] == by_time[3:]


async def test_a_beat_renews_the_leases_of_jobs_in_any_partition(world: World) -> None:
    jobs = [await world.accepted(team) for team in (*orders.teams_of_different_partitions(3), "acme", "acme")]
    world.passes(LEASE - 1)
    assert await world.store.beat({job.id: 1 for job in jobs}) == frozenset()
    world.passes(LEASE - 0.01)
    assert await world.claimable() == set()
    world.passes(0.01)
    assert await world.claimable() == {job.id for job in jobs}


async def test_a_beat_of_nothing_loses_nothing(world: World) -> None:
    assert await world.store.beat({}) == frozenset()


async def test_a_beat_tells_which_jobs_are_not_ours_any_more_and_leaves_their_leases_alone(world: World) -> None:
    taken, kept, never = await world.accepted(), await world.accepted(), world.acceptance().job
    settled = await world.bought()
    world.passes(LEASE)
    assert await world.store.beat({kept.id: 1}) == frozenset()
    assert await world.claimable() == {taken.id}
    world.passes(LEASE - 1)
    beaten = await world.store.beat({taken.id: 1, kept.id: 1, never.id: 1, settled.id: 1})
    assert beaten == {taken.id, never.id, settled.id}
    world.passes(1)
    assert await world.claimable() == {taken.id}


async def test_a_lease_that_has_run_out_unnoticed_may_still_be_renewed(world: World) -> None:
    """A process that slept and whose jobs nobody took: nothing was decided meanwhile."""
    job = await world.accepted()
    world.passes(10 * LEASE)
    assert await world.store.beat({job.id: 1}) == frozenset()
    assert await world.claimable() == set()


async def test_a_snoozed_job_comes_back_when_it_was_said(world: World) -> None:
    job = await world.accepted()
    assert await world.store.snooze(job.id, 1, 100.0)
    world.passes(99.9)
    assert await world.claimable() == set()
    world.passes(0.1)
    assert await world.store.claim() == (Claimed(job=job, fence=2, rescues=1),)


async def test_a_job_snoozed_for_no_time_is_there_for_anybody_at_once(world: World) -> None:
    job = await world.accepted()
    assert await world.store.snooze(job.id, 1, 0.0)
    assert await world.claimable() == {job.id}


async def test_only_our_own_jobs_can_be_given_away(world: World) -> None:
    job, settled, never = await world.accepted(), await world.bought(), world.acceptance().job
    world.passes(LEASE)
    assert await world.claimable() == {job.id}
    before = world.raw.dump()
    assert not await world.store.snooze(job.id, 1, 0.0)
    assert not await world.store.snooze(settled.id, 1, 0.0)
    assert not await world.store.snooze(never.id, 1, 0.0)
    assert world.raw.dump() == before


async def test_what_was_given_away_may_not_be_decided_about(world: World) -> None:
    job = await world.accepted()
    assert await world.store.snooze(job.id, 1, 1.0)
    assert await world.unchanged_by(orders.changed(job, orders.opened(job), world.now)) == [Fenced()]


async def test_a_change_by_the_owner_neither_shortens_nor_lengthens_the_lease(world: World) -> None:
    job = await world.accepted()
    world.passes(5.0)
    opening = orders.changed(job, orders.opened(job), world.now)
    assert opening.due == world.now, "somebody without any memory would look at once: the order may be lost"
    job = await world.done(opening)
    assert await world.claimable() == set()
    world.passes(LEASE - 5.01)
    assert await world.claimable() == set()
    world.passes(0.01)
    assert await world.claimable() == {job.id}


async def test_a_change_by_an_owner_whose_lease_has_run_out_does_not_renew_it(world: World) -> None:
    """Only a beat does: whoever is late may decide until somebody else has the job, and not a moment longer."""
    job = await world.accepted()
    world.passes(LEASE + 1)
    job = await world.happens(job, orders.opened(job))
    assert await world.store.claim() == (Claimed(job=job, fence=2, rescues=1),)


async def test_a_fact_brought_by_anybody_leaves_the_owner_its_lease(world: World) -> None:
    job = await world.accepted()
    world.passes(LEASE)
    await world.claimable()
    world.passes(5.0)
    await world.happens(job, CancelAsked())
    other = await world.accepted()
    other = await world.happens(other, orders.opened(other))
    await world.happens(other, AnswerLost(attempt=1))
    world.passes(LEASE - 5.01)
    assert await world.claimable() == set()


async def test_a_job_without_an_owner_is_due_when_its_last_change_says(world: World) -> None:
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job))
    assert await world.store.snooze(job.id, 1, 1000.0)
    learned = orders.changed(job, orders.ticket(), world.now)
    assert learned.due == world.now + 5.0
    await world.done(learned)
    world.passes(4.99)
    assert await world.claimable() == set()
    world.passes(0.01)
    assert await world.claimable() == {job.id}


async def test_a_settled_job_is_never_looked_at_again(world: World) -> None:
    await world.bought()
    world.passes(10 * LEASE)
    assert await world.store.claim() == ()
    assert world.raw.due() == {}


async def test_a_job_whose_team_is_done_with_it_is_due_until_its_money_is_settled(world: World) -> None:
    job = await world.accepted(seconds=60.0)
    job = await world.happens(job, orders.opened(job), orders.ticket())
    world.passes(60.0)
    (claimed,) = await world.store.claim()
    job = await world.happens(claimed.job, JobExpired(fence=claimed.fence))
    assert job.state.is_terminal
    assert not job.is_settled
    world.passes(LEASE)
    assert await world.claimable() == {job.id}
    job = await world.happens(job, orders.delivered(job))
    assert job.is_settled
    world.passes(10 * LEASE)
    assert await world.claimable() == set()


async def test_one_replica_takes_over_what_another_let_go(replicas: World) -> None:
    async with replicas.another("two") as two:
        job = await replicas.accepted()
        assert await two.claim() == ()
        replicas.passes(LEASE)
        assert await two.claim() == (Claimed(job=job, fence=2, rescues=1),)
        assert await replicas.store.beat({job.id: 1}) == {job.id}
        assert await replicas.store.commit(orders.changed(job, orders.opened(job), replicas.now)) == Fenced()
        assert await two.commit(orders.changed(job, orders.opened(job, fence=2), replicas.now)) == Applied()


async def test_a_fact_from_another_replica_leaves_the_job_to_its_owner(replicas: World) -> None:
    async with replicas.another("two") as two:
        job = await replicas.accepted()
        job = await replicas.happens(job, orders.opened(job))
        learned = orders.changed(job, orders.ticket(), replicas.now)
        assert await two.commit(learned) == Applied()
        replicas.passes(LEASE - 0.01)
        assert await two.claim() == ()
        assert await replicas.store.beat({job.id: 1}) == frozenset()


@pytest.mark.parametrize("claims", [2, 10])
async def test_many_claims_at_once_give_each_job_to_one_of_them(replicas: World, claims: int) -> None:
    async with replicas.another("two") as two:
        jobs = [await replicas.accepted(team) for team in orders.teams_of_different_partitions(20)]
        replicas.passes(LEASE)
        stores = [replicas.store, two] * (claims // 2)
        taken = [claimed for some in await orders.together(store.claim() for store in stores) for claimed in some]
        assert sorted(claimed.job.id for claimed in taken) == sorted(job.id for job in jobs)
        assert {claimed.fence for claimed in taken} == {2}


async def test_a_job_that_is_given_away_again_and_again_has_killed_nobody(world: World) -> None:
    job = await world.accepted()
    for fence in range(1, 6):
        assert await world.store.snooze(job.id, fence, 0.0)
        assert await world.store.claim() == (Claimed(job=job, fence=fence + 1, rescues=1),)


async def test_an_owner_that_lives_for_a_beat_has_not_died_of_its_job(world: World) -> None:
    job = await world.accepted()
    for fence in range(2, 6):
        world.passes(LEASE)
        assert await world.store.claim() == (Claimed(job=job, fence=fence, rescues=1),)
        assert await world.store.beat({job.id: fence}) == frozenset()


async def died_early(world: World, times: int) -> None:
    """Owner after owner, as soon as each has claimed what it could."""
    for _ in range(times):
        await world.store.claim()
        world.passes(LEASE)


async def test_what_two_owners_died_of_is_claimed_one_at_a_time_and_the_rest_together(world: World) -> None:
    world.passes(LEASE)
    deadly = [await world.accepted(team) for team in orders.teams_of_different_partitions(3)]
    world.passes(LEASE)
    await died_early(world, EARLY_DEATHS)
    others = [await world.accepted() for _ in range(2)]
    world.passes(LEASE)
    claimed = await world.store.claim()
    assert [one.is_suspect for one in claimed] == [False, False, True]
    assert {one.job.id for one in claimed[:2]} == {job.id for job in others}
    (second,), (third,) = await world.store.claim(), await world.store.claim()
    assert {one.job.id for one in (claimed[2], second, third)} == {job.id for job in deadly}
    assert await world.store.claim() == ()


async def test_a_suspect_that_was_beaten_is_one_like_the_others_again(world: World) -> None:
    jobs = [await world.accepted() for _ in range(3)]
    world.passes(LEASE)
    await died_early(world, EARLY_DEATHS)
    for _ in jobs:
        (claimed,) = await world.store.claim()
        assert await world.store.beat({claimed.job.id: claimed.fence}) == frozenset()
    world.passes(LEASE)
    assert [one.rescues for one in await world.store.claim()] == [1, 1, 1]


async def test_the_more_died_of_a_job_alone_the_longer_until_it_is_tried_again(world: World) -> None:
    await world.accepted()
    world.passes(LEASE)
    await died_early(world, EARLY_DEATHS)
    for deaths in range(1, 15):
        (claimed,) = await world.store.claim()
        lease = min(LEASE * 2 ** (deaths - 1), LONGEST_LEASE)
        assert claimed.rescues == EARLY_DEATHS + deaths
        world.passes(lease - 0.01)
        assert await world.store.claim() == ()
        world.passes(0.02)


async def test_a_beat_makes_the_lease_of_a_suspect_an_ordinary_one(world: World) -> None:
    job = await world.accepted()
    world.passes(LEASE)
    await died_early(world, EARLY_DEATHS + 1)
    (claimed,) = await world.store.claim()
    await world.store.beat({job.id: claimed.fence})
    world.passes(LEASE)
    assert await world.claimable() == {job.id}


async def dies(world: World, number: int, lives: float) -> Claimed:
    """The next process claims the job, renews its lease as often as it should, and crashes after so many seconds."""
    await world.reopened(f"process {number}")
    (claimed,) = await world.store.claim()
    while lives >= BEAT:
        world.passes(BEAT)
        lives -= BEAT
        await world.store.beat({claimed.job.id: claimed.fence})
    world.passes(max(lives, LONGEST_LEASE + 1))
    return claimed


@pytest.mark.parametrize("lives", [BEAT, 2 * BEAT + 1.0, 10 * BEAT])
async def test_late_crashes_count_from_the_second_one(world: World, lives: float) -> None:
    await world.accepted()
    world.passes(LEASE)
    found = [await dies(world, number, lives) for number in range(6)]
    longest = lives // BEAT * BEAT
    assert [(one.rescues, one.longest) for one in found] == [
        (1, 0.0),
        *((deaths, longest) for deaths in range(1, 6)),
    ]


@pytest.mark.parametrize(("longer", "rescues"), [(0.0, 6), (BEAT, 1)])
async def test_count_is_reset_by_owner_that_outlives_the_crashed_ones(
    world: World, longer: float, rescues: int
) -> None:
    await world.accepted()
    world.passes(LEASE)
    for number in range(5):
        await dies(world, number, 2 * BEAT)
    assert (await dies(world, 5, survival_seconds(2 * BEAT, LEASE) + longer)).rescues == 5
    assert (await dies(world, 6, 0.0)).rescues == rescues


async def test_change_resets_count_and_lifetimes(world: World) -> None:
    job = await world.accepted()
    world.passes(LEASE)
    for number in range(3):
        await dies(world, number, 2 * BEAT)
    await world.happens(job, JobConfirmed())
    world.passes(BEAT)
    await world.store.beat({job.id: 4})
    world.passes(LEASE)
    await world.reopened("another")
    (claimed,) = await world.store.claim()
    assert (claimed.rescues, claimed.longest) == (1, 0.0)


async def test_renewal_does_not_shorten_the_lease_of_a_suspect(world: World) -> None:
    await world.accepted()
    world.passes(LEASE)
    for number in range(6):
        await dies(world, number, BEAT)
    await world.reopened("the last")
    (claimed,) = await world.store.claim()
    assert claimed.rescues == 6
    await world.store.beat({claimed.job.id: claimed.fence})
    world.passes(lease_for(6, LEASE) - 0.01)
    assert await world.claimable() == set()
    world.passes(0.02)
    assert await world.claimable() == {claimed.job.id}


async def test_release_of_a_suspect_takes_back_its_claim(world: World) -> None:
    job = await world.accepted()
    world.passes(LEASE)
    await died_early(world, EARLY_DEATHS)
    for _ in range(3):
        (claimed,) = await world.store.claim()
        assert claimed.rescues == EARLY_DEATHS + 1
        assert await world.store.snooze(job.id, claimed.fence, 0.0)


async def test_many_suspects_keep_nobody_from_the_others(world: World) -> None:
    """All in one partition, and all of them due earlier."""
    for _ in range(130):
        await world.accepted()
    world.passes(LEASE)
    for _ in range(EARLY_DEATHS):
        while await world.store.claim():
            continue
        world.passes(LEASE)
    job = await world.accepted()
    world.passes(LEASE)
    claimed = await world.store.claim()
    assert (len(claimed), claimed[0].job) == (2, job)
