"""Leases: which replica may decide about a job, until when, and which one claims it afterwards."""

import pytest

from gateway.jobs.job_update_types import CallbackReceived, CancelRequested, JobConfirmed, JobExpired, ResponseLost
from gateway.store.base import (
    MAX_EARLY_CRASHES,
    MAX_LEASE_SECONDS,
    RENEWALS_PER_LEASE,
    Applied,
    ClaimedJob,
    LeaseLost,
    Store,
    initial_lease_seconds,
    min_survival_seconds,
)
from tests.store import job_factory
from tests.store.store_harness import LEASE_SECONDS, StoreHarness

RENEWAL_SECONDS = LEASE_SECONDS / RENEWALS_PER_LEASE


async def test_each_claim_raises_the_fence_and_the_reclaim_count(harness: StoreHarness) -> None:
    job = await harness.create_job()
    for reclaims in (1, 2, 3):
        harness.advance_time(LEASE_SECONDS)
        assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=1 + reclaims, reclaims=reclaims),)


async def test_decision_of_the_new_owner_resets_the_reclaim_count(harness: StoreHarness) -> None:
    job = await harness.create_job()
    for _ in range(2):
        harness.advance_time(LEASE_SECONDS)
        assert len(await harness.store.claim_jobs()) == 1
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job, fence=3))
    harness.advance_time(LEASE_SECONDS)
    assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=4, reclaims=1),)


async def test_fact_resets_the_reclaim_count(harness: StoreHarness) -> None:
    """A fact from any replica shows that the job makes progress."""
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    harness.advance_time(LEASE_SECONDS)
    await harness.claim_job_ids()
    job = await harness.apply_updates(job, CallbackReceived(attempt=1))
    harness.advance_time(LEASE_SECONDS)
    assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=3, reclaims=1),)


async def test_claimed_job_cannot_be_claimed_until_its_lease_ends(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}
    await expect_claimable_after(harness, job.id, LEASE_SECONDS)


async def expect_claimable_after(harness: StoreHarness, job_id: str, seconds: float) -> None:
    """Advances the time, and claims the job when exactly this time has passed."""
    assert await harness.claim_job_ids() == set()
    harness.advance_time(seconds - 0.01)
    assert await harness.claim_job_ids() == set()
    harness.advance_time(0.01)
    assert await harness.claim_job_ids() == {job_id}


async def test_jobs_are_claimed_in_due_order_across_partitions(harness: StoreHarness) -> None:
    teams = job_factory.pick_teams_of_different_partitions(5)
    by_time = []
    for team in (teams[3], teams[0], teams[4], teams[1], teams[2]):
        by_time.append(await harness.create_job(team))
        harness.advance_time(1.0)
    harness.advance_time(LEASE_SECONDS)
    first = await harness.store.claim_jobs(limit=2)
    rest = await harness.store.claim_jobs()
    assert [claimed.job for claimed in (*first, *rest)] == by_time
    assert len(first) == 2


async def test_jobs_of_one_team_are_claimed_in_due_order(harness: StoreHarness) -> None:
    by_time = []
    for _ in range(5):
        by_time.append(await harness.create_job())
        harness.advance_time(0.001)
    harness.advance_time(LEASE_SECONDS)
    assert [claimed.job for claimed in await harness.store.claim_jobs(limit=3)] == by_time[:3]
    assert [claimed.job for claimed in await harness.store.claim_jobs(limit=3)] == by_time[3:]


async def test_renewal_extends_leases_in_all_partitions(harness: StoreHarness) -> None:
    jobs = [
        await harness.create_job(team) for team in (*job_factory.pick_teams_of_different_partitions(3), "acme", "acme")
    ]
    harness.advance_time(LEASE_SECONDS - 1)
    assert await harness.store.renew_leases({job.id: 1 for job in jobs}) == frozenset()
    harness.advance_time(LEASE_SECONDS - 0.01)
    assert await harness.claim_job_ids() == set()
    harness.advance_time(0.01)
    assert await harness.claim_job_ids() == {job.id for job in jobs}


async def test_renewal_of_no_leases_loses_nothing(harness: StoreHarness) -> None:
    assert await harness.store.renew_leases({}) == frozenset()


async def test_renewal_reports_lost_leases_and_leaves_them_unchanged(harness: StoreHarness) -> None:
    reclaimed, owned, unknown = await harness.create_job(), await harness.create_job(), harness.make_create_commit().job
    settled = await harness.create_settled_job()
    harness.advance_time(LEASE_SECONDS)
    assert await harness.store.renew_leases({owned.id: 1}) == frozenset()
    assert await harness.claim_job_ids() == {reclaimed.id}
    harness.advance_time(LEASE_SECONDS - 1)
    lost_ids = await harness.store.renew_leases({reclaimed.id: 1, owned.id: 1, unknown.id: 1, settled.id: 1})
    assert lost_ids == {reclaimed.id, unknown.id, settled.id}
    harness.advance_time(1)
    assert await harness.claim_job_ids() == {reclaimed.id}


async def test_expired_unclaimed_lease_can_be_renewed(harness: StoreHarness) -> None:
    """A process slept, and no replica claimed its jobs, so nothing was decided meanwhile."""
    job = await harness.create_job()
    harness.advance_time(10 * LEASE_SECONDS)
    assert await harness.store.renew_leases({job.id: 1}) == frozenset()
    assert await harness.claim_job_ids() == set()


async def test_released_job_is_due_after_its_delay(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 100.0)
    harness.advance_time(99.9)
    assert await harness.claim_job_ids() == set()
    harness.advance_time(0.1)
    assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=2, reclaims=1),)


async def test_job_released_without_delay_can_be_claimed_at_once(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 0.0)
    assert await harness.claim_job_ids() == {job.id}


async def test_only_owned_jobs_can_be_released(harness: StoreHarness) -> None:
    job, settled, unknown = (
        await harness.create_job(),
        await harness.create_settled_job(),
        harness.make_create_commit().job,
    )
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}
    before = harness.raw_store.dump_everything()
    assert not await harness.store.release_job(job.id, 1, 0.0)
    assert not await harness.store.release_job(settled.id, 1, 0.0)
    assert not await harness.store.release_job(unknown.id, 1, 0.0)
    assert harness.raw_store.dump_everything() == before


async def test_decision_about_a_released_job_is_lease_lost(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 1.0)
    assert await harness.commit_without_effect(
        job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    ) == [LeaseLost()]


async def test_update_by_the_owner_does_not_change_the_lease(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(5.0)
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    assert start_commit.due_at == harness.now, "another replica would look at the job at once: the order may be lost"
    job = await harness.apply_commit(start_commit)
    await expect_claimable_after(harness, job.id, LEASE_SECONDS - 5.0)


async def test_update_by_owner_with_expired_lease_does_not_renew_it(harness: StoreHarness) -> None:
    """Only a renewal renews the lease. A late owner may decide until another replica claims the job."""
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS + 1)
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=2, reclaims=1),)


async def test_fact_does_not_change_the_lease_of_the_owner(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    await harness.claim_job_ids()
    harness.advance_time(5.0)
    await harness.apply_updates(job, CancelRequested())
    other = await harness.create_job()
    other = await harness.apply_updates(other, job_factory.make_attempt_started(other))
    await harness.apply_updates(other, ResponseLost(attempt=1))
    harness.advance_time(LEASE_SECONDS - 5.01)
    assert await harness.claim_job_ids() == set()


async def test_unowned_job_is_due_when_its_last_update_says(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    assert await harness.store.release_job(job.id, 1, 1000.0)
    ticket_commit = job_factory.make_update_commit(job, job_factory.make_ticket_received(), harness.now)
    assert ticket_commit.due_at == harness.now + 5.0
    await harness.apply_commit(ticket_commit)
    harness.advance_time(4.99)
    assert await harness.claim_job_ids() == set()
    harness.advance_time(0.01)
    assert await harness.claim_job_ids() == {job.id}


async def test_settled_job_is_never_due(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    harness.advance_time(10 * LEASE_SECONDS)
    assert await harness.store.claim_jobs() == ()
    assert harness.raw_store.read_due_times() == {}


async def test_finished_job_is_due_until_it_is_settled(harness: StoreHarness) -> None:
    job = await harness.create_job(deadline_seconds=60.0)
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())
    harness.advance_time(60.0)
    (claimed,) = await harness.store.claim_jobs()
    job = await harness.apply_updates(claimed.job, JobExpired(fence=claimed.fence))
    assert job.state.is_terminal
    assert not job.is_settled
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}
    job = await harness.apply_updates(job, job_factory.make_images_stored(job))
    assert job.is_settled
    harness.advance_time(10 * LEASE_SECONDS)
    assert await harness.claim_job_ids() == set()


async def test_replica_reclaims_a_job_with_expired_lease(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        job = await shared_harness.create_job()
        assert await two.claim_jobs() == ()
        shared_harness.advance_time(LEASE_SECONDS)
        assert await two.claim_jobs() == (ClaimedJob(job=job, fence=2, reclaims=1),)
        assert await shared_harness.store.renew_leases({job.id: 1}) == {job.id}
        assert (
            await shared_harness.store.commit(
                job_factory.make_update_commit(job, job_factory.make_attempt_started(job), shared_harness.now)
            )
            == LeaseLost()
        )
        assert (
            await two.commit(
                job_factory.make_update_commit(job, job_factory.make_attempt_started(job, fence=2), shared_harness.now)
            )
            == Applied()
        )


async def test_fact_from_another_replica_keeps_the_owner(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        job = await shared_harness.create_job()
        job = await shared_harness.apply_updates(job, job_factory.make_attempt_started(job))
        ticket_commit = job_factory.make_update_commit(job, job_factory.make_ticket_received(), shared_harness.now)
        assert await two.commit(ticket_commit) == Applied()
        shared_harness.advance_time(LEASE_SECONDS - 0.01)
        assert await two.claim_jobs() == ()
        assert await shared_harness.store.renew_leases({job.id: 1}) == frozenset()


@pytest.mark.parametrize("claims", [2, 10])
async def test_concurrent_claims_give_each_job_to_one_replica(shared_harness: StoreHarness, claims: int) -> None:
    async with shared_harness.open_another("two") as two:
        jobs = [await shared_harness.create_job(team) for team in job_factory.pick_teams_of_different_partitions(20)]
        shared_harness.advance_time(LEASE_SECONDS)
        stores = [shared_harness.store, two] * (claims // 2)
        claimed_jobs = [
            claimed
            for batch in await job_factory.gather_all(store.claim_jobs() for store in stores)
            for claimed in batch
        ]
        assert sorted(claimed.job.id for claimed in claimed_jobs) == sorted(job.id for job in jobs)
        assert {claimed.fence for claimed in claimed_jobs} == {2}


async def test_repeated_releases_do_not_count_as_crashes(harness: StoreHarness) -> None:
    job = await harness.create_job()
    for fence in range(1, 6):
        assert await harness.store.release_job(job.id, fence, 0.0)
        assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=fence + 1, reclaims=1),)


async def test_owner_that_renewed_once_does_not_count_as_crashed(harness: StoreHarness) -> None:
    job = await harness.create_job()
    for fence in range(2, 6):
        harness.advance_time(LEASE_SECONDS)
        assert await harness.store.claim_jobs() == (ClaimedJob(job=job, fence=fence, reclaims=1),)
        assert await harness.store.renew_leases({job.id: fence}) == frozenset()


async def crash_early(harness: StoreHarness, crash_count: int) -> None:
    """Lets owners claim and crash one after the other, each right after its claim."""
    for _ in range(crash_count):
        await harness.store.claim_jobs()
        harness.advance_time(LEASE_SECONDS)


async def test_suspects_are_claimed_one_at_a_time_and_other_jobs_together(harness: StoreHarness) -> None:
    harness.advance_time(LEASE_SECONDS)
    suspects = [await harness.create_job(team) for team in job_factory.pick_teams_of_different_partitions(3)]
    harness.advance_time(LEASE_SECONDS)
    await crash_early(harness, MAX_EARLY_CRASHES)
    others = [await harness.create_job() for _ in range(2)]
    harness.advance_time(LEASE_SECONDS)
    claimed = await harness.store.claim_jobs()
    assert [claim.is_suspect for claim in claimed] == [False, False, True]
    assert {claim.job.id for claim in claimed[:2]} == {job.id for job in others}
    (second,), (third,) = await harness.store.claim_jobs(), await harness.store.claim_jobs()
    assert {claim.job.id for claim in (claimed[2], second, third)} == {job.id for job in suspects}
    assert await harness.store.claim_jobs() == ()


async def test_renewed_suspect_is_no_longer_a_suspect(harness: StoreHarness) -> None:
    jobs = [await harness.create_job() for _ in range(3)]
    harness.advance_time(LEASE_SECONDS)
    await crash_early(harness, MAX_EARLY_CRASHES)
    for _ in jobs:
        (claimed,) = await harness.store.claim_jobs()
        assert await harness.store.renew_leases({claimed.job.id: claimed.fence}) == frozenset()
    harness.advance_time(LEASE_SECONDS)
    assert [claim.reclaims for claim in await harness.store.claim_jobs()] == [1, 1, 1]


async def test_lease_of_a_suspect_doubles_with_each_crash(harness: StoreHarness) -> None:
    await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    await crash_early(harness, MAX_EARLY_CRASHES)
    for crashes in range(1, 15):
        (claimed,) = await harness.store.claim_jobs()
        lease = min(LEASE_SECONDS * 2 ** (crashes - 1), MAX_LEASE_SECONDS)
        assert claimed.reclaims == MAX_EARLY_CRASHES + crashes
        harness.advance_time(lease - 0.01)
        assert await harness.store.claim_jobs() == ()
        harness.advance_time(0.02)


async def test_renewal_gives_a_suspect_an_ordinary_lease(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    await crash_early(harness, MAX_EARLY_CRASHES + 1)
    (claimed,) = await harness.store.claim_jobs()
    await harness.store.renew_leases({job.id: claimed.fence})
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}


async def claim_and_crash(harness: StoreHarness, number: int, lifetime: float) -> ClaimedJob:
    """Lets the next process claim the job, renew its lease on time, and crash after `lifetime` seconds."""
    await harness.reopen(f"process {number}")
    (claimed,) = await harness.store.claim_jobs()
    while lifetime >= RENEWAL_SECONDS:
        harness.advance_time(RENEWAL_SECONDS)
        lifetime -= RENEWAL_SECONDS
        await harness.store.renew_leases({claimed.job.id: claimed.fence})
    harness.advance_time(max(lifetime, MAX_LEASE_SECONDS + 1))
    return claimed


@pytest.mark.parametrize("lifetime", [RENEWAL_SECONDS, 2 * RENEWAL_SECONDS + 1.0, 10 * RENEWAL_SECONDS])
async def test_late_crashes_count_from_the_second_one(harness: StoreHarness, lifetime: float) -> None:
    await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    claims = [await claim_and_crash(harness, number, lifetime) for number in range(6)]
    max_owned_seconds = lifetime // RENEWAL_SECONDS * RENEWAL_SECONDS
    assert [(claim.reclaims, claim.max_owned_seconds) for claim in claims] == [
        (1, 0.0),
        *((crashes, max_owned_seconds) for crashes in range(1, 6)),
    ]


@pytest.mark.parametrize(("extra_seconds", "reclaims"), [(0.0, 6), (RENEWAL_SECONDS, 1)])
async def test_owner_that_outlives_crashed_ones_resets_the_count(
    harness: StoreHarness, extra_seconds: float, reclaims: int
) -> None:
    await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    for number in range(5):
        await claim_and_crash(harness, number, 2 * RENEWAL_SECONDS)
    assert (
        await claim_and_crash(harness, 5, min_survival_seconds(2 * RENEWAL_SECONDS, LEASE_SECONDS) + extra_seconds)
    ).reclaims == 5
    assert (await claim_and_crash(harness, 6, 0.0)).reclaims == reclaims


async def test_update_resets_the_reclaim_count_and_lifetime(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    for number in range(3):
        await claim_and_crash(harness, number, 2 * RENEWAL_SECONDS)
    await harness.apply_updates(job, JobConfirmed())
    harness.advance_time(RENEWAL_SECONDS)
    await harness.store.renew_leases({job.id: 4})
    harness.advance_time(LEASE_SECONDS)
    await harness.reopen("another")
    (claimed,) = await harness.store.claim_jobs()
    assert (claimed.reclaims, claimed.max_owned_seconds) == (1, 0.0)


async def test_renewal_does_not_shorten_the_lease_of_a_suspect(harness: StoreHarness) -> None:
    await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    for number in range(6):
        await claim_and_crash(harness, number, RENEWAL_SECONDS)
    await harness.reopen("the last")
    (claimed,) = await harness.store.claim_jobs()
    assert claimed.reclaims == 6
    await harness.store.renew_leases({claimed.job.id: claimed.fence})
    harness.advance_time(initial_lease_seconds(6, LEASE_SECONDS) - 0.01)
    assert await harness.claim_job_ids() == set()
    harness.advance_time(0.02)
    assert await harness.claim_job_ids() == {claimed.job.id}


async def test_release_of_a_suspect_does_not_raise_its_count(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    await crash_early(harness, MAX_EARLY_CRASHES)
    for _ in range(3):
        (claimed,) = await harness.store.claim_jobs()
        assert claimed.reclaims == MAX_EARLY_CRASHES + 1
        assert await harness.store.release_job(job.id, claimed.fence, 0.0)


async def test_many_suspects_do_not_delay_other_jobs(harness: StoreHarness) -> None:
    """All suspects are in one partition and due earlier than the other jobs."""
    for _ in range(130):
        await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    for _ in range(MAX_EARLY_CRASHES):
        while await harness.store.claim_jobs():
            continue
        harness.advance_time(LEASE_SECONDS)
    job = await harness.create_job()
    harness.advance_time(LEASE_SECONDS)
    claimed = await harness.store.claim_jobs()
    assert (len(claimed), claimed[0].job) == (2, job)


async def test_late_renewal_does_not_renew_a_released_job(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 1.0)
    assert await harness.store.renew_leases({job.id: 1}) == {job.id}
    harness.advance_time(1.0)
    assert await harness.claim_job_ids() == {job.id}


async def test_released_job_cannot_be_released_again(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 1.0)
    assert not await harness.store.release_job(job.id, 1, 1000.0)
    harness.advance_time(1.0)
    assert await harness.claim_job_ids() == {job.id}


async def expire_leases(store: Store) -> int:
    """Checks twice: a replica counts as killed if it is missing in two checks in a row."""
    return sum([await store.expire_leases_of_killed_replicas() for _ in range(2)])


async def test_jobs_of_killed_replica_are_due_before_their_leases_end(harness: StoreHarness) -> None:
    job, other_job = await harness.create_job("acme"), await harness.create_job("globex")
    assert await expire_leases(harness.store) == 0
    store = await harness.reopen_after_kill()
    assert await expire_leases(store) == 2
    claimed_jobs = await store.claim_jobs()
    assert {claimed.job.id for claimed in claimed_jobs} == {job.id, other_job.id}
    assert [(claimed.fence, claimed.reclaims) for claimed in claimed_jobs] == [(2, 1), (2, 1)]


async def test_leases_of_killed_replica_are_expired_once(harness: StoreHarness) -> None:
    await harness.create_job()
    store = await harness.reopen_after_kill()
    assert await expire_leases(store) == 1
    assert await harness.claim_job_ids()
    assert await expire_leases(store) == 0
    assert await harness.claim_job_ids() == set()


async def test_suspect_keeps_its_lease_after_a_kill(harness: StoreHarness) -> None:
    """It may be the cause of the crashes: claimed at once, it would crash every replica within seconds."""
    await harness.create_job()
    for number in range(MAX_EARLY_CRASHES):
        await harness.reopen_after_kill(f"crash-{number}")
        assert await expire_leases(harness.store) == 1
        assert await harness.claim_job_ids()
    await harness.reopen_after_kill("last")
    assert await expire_leases(harness.store) == 0
    assert await harness.claim_job_ids() == set()


async def test_running_replica_keeps_its_leases(shared_harness: StoreHarness) -> None:
    job = await shared_harness.create_job()
    async with shared_harness.open_another("two") as other:
        assert await expire_leases(shared_harness.store) == 0
        assert await expire_leases(other) == 0
        assert await other.claim_jobs() == ()
        assert await shared_harness.store.renew_leases({job.id: 1}) == frozenset()


async def test_waiting_job_stays_waiting_when_a_replica_is_killed(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 600.0)
    store = await harness.reopen_after_kill()
    assert await expire_leases(store) == 0
    assert await harness.claim_job_ids() == set()
