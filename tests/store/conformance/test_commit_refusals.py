"""Reasons for refusing a commit. A refused commit writes nothing."""

import asyncio

import pytest

from gateway.jobs.budgets import WindowKind
from gateway.jobs.job_update_types import CallbackReceived, CancelRequested, ResponseLost
from gateway.store.base import (
    Applied,
    BudgetExceeded,
    DuplicateRequest,
    IdempotencyKeyReused,
    LeaseLost,
    VersionConflict,
)
from gateway.store.partitions import new_job_id
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, PRICE
from tests.store.store_harness import LEASE_SECONDS, StoreHarness


async def test_update_of_an_outdated_version_is_version_conflict(harness: StoreHarness) -> None:
    job = await harness.create_job(documents={"request": b"{}"})
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    other = job_factory.make_update_commit(job, job_factory.make_attempt_started(job, route_index=1), harness.now)
    await harness.apply_commit(start_commit)
    assert await harness.commit_without_effect(other) == [VersionConflict()]


async def test_update_of_an_unknown_job_is_version_conflict(harness: StoreHarness) -> None:
    job = harness.make_create_commit().job
    assert await harness.commit_without_effect(
        job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    ) == [VersionConflict()]


async def test_second_job_with_the_same_id_is_version_conflict(harness: StoreHarness) -> None:
    job = await harness.create_job(n=1)
    assert await harness.commit_without_effect(harness.make_create_commit(id=job.id, n=2)) == [VersionConflict()]


async def test_decision_after_reclaim_is_lease_lost(harness: StoreHarness) -> None:
    job = await harness.create_job()
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}
    assert await harness.commit_without_effect(start_commit) == [LeaseLost()]


async def test_decision_with_unknown_fence_is_lease_lost(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.commit_without_effect(
        job_factory.make_update_commit(job, job_factory.make_attempt_started(job, fence=7), harness.now)
    ) == [LeaseLost()]


async def test_outdated_decision_after_reclaim_is_refused(harness: StoreHarness) -> None:
    """Both refusals are right. If the replica reloads the job and tries again, its lease is lost."""
    job = await harness.create_job()
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    harness.advance_time(LEASE_SECONDS)
    (claimed,) = await harness.store.claim_jobs()
    await harness.apply_updates(claimed.job, job_factory.make_attempt_started(job, fence=claimed.fence, route_index=1))
    (outcome,) = await harness.commit_without_effect(start_commit)
    assert outcome in (VersionConflict(), LeaseLost())


async def test_fact_needs_no_lease(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    harness.advance_time(LEASE_SECONDS)
    await harness.claim_job_ids()
    assert (
        await harness.store.commit(job_factory.make_update_commit(job, CallbackReceived(attempt=1), harness.now))
        == Applied()
    )


@pytest.mark.parametrize("kind", WindowKind)
async def test_budget_exceeded_reports_its_figures(harness: StoreHarness, kind: WindowKind) -> None:
    await harness.create_settled_job()
    await harness.create_job()
    full = PRICE + 2 * CEILING
    extras = {"has_webhook": True, "idempotency": job_factory.make_client_key(), "documents": {"request": b"{}"}}
    over_budget = harness.make_create_commit(**{kind.value: full - 1}, **extras)
    expected = job_factory.make_exceeded(kind, full - 1, spent=PRICE, held=CEILING)
    assert await harness.commit_without_effect(over_budget) == [expected]
    assert await harness.try_create_job(**{kind.value: full}, **extras) == Applied()


async def test_job_over_budget_does_not_use_up_its_key(harness: StoreHarness) -> None:
    over_budget = harness.make_create_commit(day=CEILING - 1, idempotency=job_factory.make_client_key())
    assert await harness.commit_without_effect(over_budget) == [job_factory.make_exceeded(WindowKind.DAY, CEILING - 1)]
    assert await harness.try_create_job(day=CEILING, idempotency=job_factory.make_client_key()) == Applied()


async def test_budget_of_zero_refuses_every_job(harness: StoreHarness) -> None:
    assert await harness.commit_without_effect(harness.make_create_commit(day=0)) == [
        job_factory.make_exceeded(WindowKind.DAY, 0)
    ]


async def test_lowered_budget_refuses_only_new_jobs(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert isinstance(await harness.try_create_job(day=1), BudgetExceeded)
    await harness.apply_updates(
        job,
        job_factory.make_attempt_started(job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(job, cost=3 * CEILING),
    )
    assert isinstance(await harness.try_create_job(day=1), BudgetExceeded)


async def test_teams_of_one_partition_have_separate_budgets(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_one_partition(2)
    assert await harness.try_create_job(first, day=CEILING) == Applied()
    assert await harness.try_create_job(second, day=CEILING) == Applied()
    assert isinstance(await harness.try_create_job(first, day=CEILING), BudgetExceeded)


async def test_released_hold_can_be_held_again(harness: StoreHarness) -> None:
    job = await harness.create_job(day=CEILING)
    assert isinstance(await harness.try_create_job(day=CEILING), BudgetExceeded)
    await harness.apply_updates(job, CancelRequested())
    assert await harness.try_create_job(day=CEILING) == Applied()


async def test_request_with_the_same_key_is_duplicate_request(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=job_factory.make_client_key())
    again = harness.make_create_commit(
        n=1, idempotency=job_factory.make_client_key(), documents={"request": b"{}"}, has_webhook=True
    )
    assert await harness.commit_without_effect(again) == [DuplicateRequest(job.id)]


async def test_duplicate_request_is_found_even_over_budget(harness: StoreHarness) -> None:
    job = await harness.create_job(day=CEILING, idempotency=job_factory.make_client_key())
    assert await harness.commit_without_effect(
        harness.make_create_commit(day=CEILING, idempotency=job_factory.make_client_key())
    ) == [DuplicateRequest(job.id)]


async def test_key_is_duplicate_request_until_its_ttl_ends(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(idempotency=job_factory.make_client_key(ttl_seconds=1000.0))
    harness.advance_time(999.0)
    assert await harness.commit_without_effect(
        harness.make_create_commit(idempotency=job_factory.make_client_key())
    ) == [DuplicateRequest(job.id)]
    harness.advance_time(1.0)
    assert await harness.try_create_job(idempotency=job_factory.make_client_key()) == Applied()


async def test_key_with_another_body_is_key_reused(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=job_factory.make_client_key())
    other = harness.make_create_commit(n=2, idempotency=job_factory.make_client_key(fingerprint="another body"))
    assert await harness.commit_without_effect(other) == [IdempotencyKeyReused(job.id)]


async def test_key_belongs_to_its_team(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_one_partition(2)
    await harness.create_job(first, idempotency=job_factory.make_client_key())
    assert (
        await harness.try_create_job(second, idempotency=job_factory.make_client_key(fingerprint="another body"))
        == Applied()
    )


async def test_fifty_concurrent_requests_with_one_key_create_one_job(harness: StoreHarness) -> None:
    commits = [
        harness.make_create_commit(idempotency=job_factory.make_client_key(), day=10 * CEILING) for _ in range(50)
    ]
    outcomes = await asyncio.gather(*(harness.store.commit(commit) for commit in commits))
    (job_id,) = [commit.job.id for commit, outcome in zip(commits, outcomes, strict=True) if outcome == Applied()]
    assert outcomes.count(DuplicateRequest(job_id)) == 49
    page = await harness.store.list_jobs("acme")
    assert [job.id for job in page.jobs] == [job_id]
    assert (await harness.store.load_balances("acme", DAY))[DAY].held == CEILING


async def test_fifty_concurrent_jobs_never_exceed_the_budget(harness: StoreHarness) -> None:
    outcomes = await asyncio.gather(*(harness.try_create_job(day=7 * CEILING) for _ in range(50)))
    assert outcomes.count(Applied()) == 7
    assert outcomes.count(job_factory.make_exceeded(WindowKind.DAY, 7 * CEILING, held=7 * CEILING)) == 43


async def test_one_of_many_concurrent_updates_is_applied(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    changes = [
        job_factory.make_update_commit(job, ResponseLost(attempt=1), harness.now + number) for number in range(20)
    ]
    outcomes = await asyncio.gather(*(harness.store.commit(change) for change in changes))
    assert (outcomes.count(Applied()), outcomes.count(VersionConflict())) == (1, 19)


async def test_job_ids_of_teams_differ_by_partition(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_different_partitions(2)
    job = await harness.create_job(first)
    assert new_job_id(second)[:6] != job.id[:6]
    assert (await harness.store.list_jobs(second)).jobs == ()
