"""A body's record holds all live jobs of that body and their callers. It decides which job a request gets."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import BODY_KEY_TTL_SECONDS, UNCOUNTED, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import CancelRequested, OrderFailed
from gateway.store.base import Applied, BudgetExceeded, DuplicateRequest
from gateway.store.repeated_request_matching import MAX_ENTRIES, MAX_REFUSALS
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.store_harness import LEASE_SECONDS, StoreHarness


def make_first_request(caller_id: str | None = None, name: str = "digest-1") -> IdempotencyRecord:
    return job_factory.make_body_key(retry_count=False, caller_id=caller_id, name=name)


def make_retry(caller_id: str | None = None, name: str = "digest-1", retry_count: int = 1) -> IdempotencyRecord:
    return job_factory.make_body_key(retry_count=retry_count, caller_id=caller_id, name=name)


async def remove_callers(harness: StoreHarness, *records: IdempotencyRecord, team: str = "acme") -> None:
    for record in records:
        await harness.store.remove_caller(team, record)


async def create_failed_job(harness: StoreHarness, kind: FaultKind) -> Job:
    """Creates a job that fails because no seller is left."""
    return await fail_job(harness, await harness.create_job(idempotency=make_first_request(), max_attempts=1), kind)


async def fail_job(harness: StoreHarness, job: Job, kind: FaultKind = FaultKind.UNAVAILABLE) -> Job:
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), OrderFailed(attempt=1, fault=kind))
    assert job.state.is_terminal
    return job


async def create_refused_jobs(harness: StoreHarness, *records: IdempotencyRecord) -> None:
    """Creates one job for each record. All fail without charges, and their callers get that answer."""
    jobs = [await harness.create_job(idempotency=record, max_attempts=1) for record in records]
    for job in jobs:
        await fail_job(harness, job)


# --- retries


async def test_retry_attaches_to_the_running_job(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=make_first_request())
    before = harness.raw_store.read_balances()
    assert await harness.try_create_job(idempotency=make_retry()) == DuplicateRequest(job.id)
    assert await harness.store.find_by_idempotency("acme", make_retry(retry_count=2)) == DuplicateRequest(job.id)
    assert (harness.raw_store.read_balances(), harness.raw_store.read_due_times().keys()) == (before, {job.id})


async def test_retry_of_an_unknown_body_creates_a_job(harness: StoreHarness) -> None:
    assert await harness.store.find_by_idempotency("acme", make_retry()) is None
    assert await harness.try_create_job(idempotency=make_retry()) == Applied()


async def test_ten_retries_get_the_ten_jobs_of_their_first_requests(harness: StoreHarness) -> None:
    """The gateway has not noticed yet that the connections of the first requests broke."""
    records = [make_first_request() for _ in range(10)]
    jobs = [await harness.create_job(idempotency=record) for record in records]
    for retry in (1, 2, 3):
        retries = [make_retry(retry_count=retry) for _ in range(10)]
        matches = await asyncio.gather(*(harness.store.find_by_idempotency("acme", match) for match in retries))
        assert sorted(repr(match) for match in matches) == sorted(repr(DuplicateRequest(job.id)) for job in jobs)
        if retry == 2:
            await remove_callers(harness, *retries)


async def test_ten_retries_without_first_requests_create_ten_jobs(harness: StoreHarness) -> None:
    """No retry replaces another one: an SDK counts its retries."""
    for _ in range(10):
        assert await harness.store.find_by_idempotency("acme", make_retry()) is None
        assert await harness.try_create_job(idempotency=make_retry()) == Applied()
    outcomes = [await harness.try_create_job(idempotency=make_first_request()) for _ in range(11)]
    assert len({repr(outcome) for outcome in outcomes}) == 11
    assert outcomes.count(Applied()) == 1


async def test_retry_gets_the_job_of_its_own_predecessor(harness: StoreHarness) -> None:
    """It does not get the job of another client that still waits for its first request."""
    records = [make_first_request() for _ in range(3)]
    jobs = [await harness.create_job(idempotency=record) for record in records]
    await remove_callers(harness, records[1])
    for retry in (1, 2, 3):
        assert await harness.store.find_by_idempotency("acme", make_retry(retry_count=retry)) == DuplicateRequest(
            jobs[1].id
        )


async def test_retry_does_not_replace_a_late_first_request(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=make_retry())
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)
    assert await harness.store.find_by_idempotency("acme", make_retry()) is None


async def test_retry_gets_the_oldest_job_without_callers(harness: StoreHarness) -> None:
    records = [make_first_request() for _ in range(4)]
    jobs = [await harness.create_job(idempotency=record) for record in records]
    await remove_callers(harness, records[1], records[2])
    matches = [await harness.store.find_by_idempotency("acme", make_retry()) for _ in range(4)]
    assert matches == [DuplicateRequest(jobs[number].id) for number in (1, 2, 0, 3)]


async def test_retry_prefers_a_running_job_to_a_finished_one(harness: StoreHarness) -> None:
    await harness.create_settled_job(idempotency=make_first_request())
    running = await harness.create_job(idempotency=make_first_request())
    assert await harness.store.find_by_idempotency("acme", make_retry()) == DuplicateRequest(running.id)


async def test_repeated_lookup_of_one_caller_counts_once(harness: StoreHarness) -> None:
    """The reply to the first lookup may have been lost."""
    records = [make_first_request() for _ in range(2)]
    jobs = [await harness.create_job(idempotency=record) for record in records]
    same = make_retry("one:same")
    matches = [await harness.store.find_by_idempotency("acme", same) for _ in range(3)]
    assert matches == [DuplicateRequest(jobs[0].id)] * 3
    assert await harness.try_create_job(idempotency=same) == DuplicateRequest(jobs[0].id)
    assert await harness.store.find_by_idempotency("acme", make_retry()) == DuplicateRequest(jobs[1].id)


async def test_caller_that_is_removed_twice_is_counted_once(harness: StoreHarness) -> None:
    removed, remaining = make_first_request(), make_first_request()
    jobs = [await harness.create_job(idempotency=record) for record in (removed, remaining)]
    await remove_callers(
        harness,
        removed,
        removed,
        replace(remaining, caller_id=remaining.caller_id[:-1]),
        make_retry(),
        job_factory.make_client_key(),
    )
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(jobs[0].id)
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


@pytest.mark.parametrize("seconds", [1.0, 10 * BODY_KEY_TTL_SECONDS])
async def test_retry_attaches_as_long_as_the_job_runs(harness: StoreHarness, seconds: float) -> None:
    job = await harness.create_job(idempotency=make_first_request())
    harness.advance_time(seconds)
    assert await harness.try_create_job(idempotency=make_retry()) == DuplicateRequest(job.id)


async def test_body_entry_outlives_its_job_by_two_minutes(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(idempotency=make_first_request())
    harness.advance_time(BODY_KEY_TTL_SECONDS - 1)
    assert await harness.try_create_job(idempotency=make_retry()) == DuplicateRequest(job.id)
    harness.advance_time(1)
    assert await harness.try_create_job(idempotency=make_retry()) == Applied()


async def test_each_body_entry_expires_with_its_own_job(harness: StoreHarness) -> None:
    first_job = await harness.create_job(idempotency=make_first_request())
    second_job = await harness.create_job(idempotency=make_first_request())
    await harness.apply_updates(first_job, CancelRequested())
    harness.advance_time(2 * BODY_KEY_TTL_SECONDS)
    assert [await harness.store.find_by_idempotency("acme", make_retry()) for _ in range(2)] == [
        DuplicateRequest(second_job.id),
        None,
    ]


async def test_body_entry_of_an_uncharged_job_is_removed_at_once(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    assert await harness.store.find_by_idempotency("acme", make_retry()) is None
    assert await harness.try_create_job(idempotency=make_retry()) == Applied()


# --- first requests


async def test_two_first_requests_of_one_body_create_two_jobs(harness: StoreHarness) -> None:
    assert [await harness.try_create_job(idempotency=make_first_request()) for _ in range(2)] == [Applied(), Applied()]


async def test_late_first_request_gets_the_job_of_its_retry_once(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=make_retry())
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_one_of_many_late_first_requests_gets_the_job(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=make_retry())
    outcomes = await asyncio.gather(*(harness.try_create_job(idempotency=make_first_request()) for _ in range(10)))
    assert (outcomes.count(DuplicateRequest(job.id)), outcomes.count(Applied())) == (1, 9)


async def test_job_still_awaits_its_first_request_after_another_retry(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=make_retry())
    assert await harness.store.find_by_idempotency("acme", make_retry(retry_count=2)) == DuplicateRequest(job.id)
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)


async def test_first_request_gets_a_job_whose_caller_disconnected(harness: StoreHarness) -> None:
    removed = make_first_request()
    job = await harness.create_job(idempotency=removed)
    await remove_callers(harness, removed)
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_first_request_gets_a_finished_job_for_two_minutes(harness: StoreHarness) -> None:
    removed = make_first_request()
    job = await harness.create_settled_job(idempotency=removed)
    await remove_callers(harness, removed)
    harness.advance_time(BODY_KEY_TTL_SECONDS - 1)
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)
    await remove_callers(harness, removed)
    harness.advance_time(1)
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_first_request_gets_a_maybe_charged_job_for_two_minutes(harness: StoreHarness) -> None:
    job = await create_failed_job(harness, FaultKind.RESPONSE_LOST)
    harness.advance_time(BODY_KEY_TTL_SECONDS - 1)
    assert [await harness.try_create_job(idempotency=make_first_request()) for _ in range(3)] == [
        DuplicateRequest(job.id)
    ] * 3
    harness.advance_time(1)
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


@pytest.mark.parametrize("kind", [FaultKind.ORDER_FAILED, FaultKind.CONTENT_REFUSED, FaultKind.NO_IMAGES])
async def test_first_request_creates_a_job_after_any_other_failure(harness: StoreHarness, kind: FaultKind) -> None:
    await create_failed_job(harness, kind)
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_first_request_creates_a_job_after_a_delivered_one(harness: StoreHarness) -> None:
    await harness.create_settled_job(idempotency=make_first_request())
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_attaching_needs_no_budget(harness: StoreHarness) -> None:
    removed = make_first_request()
    job = await harness.create_job(idempotency=removed)
    await remove_callers(harness, removed)
    assert await harness.try_create_job(idempotency=make_first_request(), day=1) == DuplicateRequest(job.id)


# --- after refusals


async def test_retry_of_a_refused_request_awaits_no_first_request(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    job = await harness.create_job(idempotency=make_retry())
    assert [await harness.try_create_job(idempotency=make_first_request()) for _ in range(2)] == [Applied(), Applied()]
    assert await harness.store.find_by_idempotency("acme", make_retry(retry_count=2)) == DuplicateRequest(job.id)


async def test_chain_of_refused_retries_awaits_no_first_request(harness: StoreHarness) -> None:
    for record in (make_first_request(), make_retry(), make_retry(retry_count=2)):
        await create_refused_jobs(harness, record)
    await harness.create_job(idempotency=make_retry(retry_count=3))
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_retries_of_refused_requests_and_first_requests_create_separate_jobs(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, *(make_first_request() for _ in range(10)))
    retries = await asyncio.gather(*(harness.try_create_job(idempotency=make_retry()) for _ in range(10)))
    firsts = await asyncio.gather(*(harness.try_create_job(idempotency=make_first_request()) for _ in range(10)))
    assert [*retries, *firsts] == [Applied()] * 20


@pytest.mark.parametrize("is_running", [True, False])
async def test_retry_of_a_refused_request_does_not_get_the_job_of_another_caller(
    harness: StoreHarness, is_running: bool
) -> None:
    """Neither while that job runs nor after it was delivered."""
    await create_refused_jobs(harness, make_first_request())
    other = await (harness.create_job if is_running else harness.create_settled_job)(idempotency=make_first_request())
    assert await harness.store.find_by_idempotency("acme", make_retry()) is None
    assert await harness.try_create_job(idempotency=make_retry()) == Applied()
    assert await harness.store.find_by_idempotency("acme", make_retry()) == DuplicateRequest(other.id), (
        "the retry of the other's caller"
    )


async def test_retry_of_a_refused_request_gets_a_job_without_callers(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    removed = make_first_request()
    job = await harness.create_job(idempotency=removed)
    await remove_callers(harness, removed)
    assert await harness.store.find_by_idempotency("acme", make_retry()) == DuplicateRequest(job.id)


async def test_retry_prefers_its_nearest_predecessor_to_a_refusal(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    job = await harness.create_job(idempotency=make_retry())
    await create_refused_jobs(harness, make_first_request())
    assert await harness.store.find_by_idempotency("acme", make_retry(retry_count=2)) == DuplicateRequest(job.id)


async def test_refusal_is_used_by_one_retry_only(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    await harness.create_job(idempotency=make_retry())
    second_job = await harness.create_job(idempotency=make_retry())
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(second_job.id)


async def test_retry_after_a_refused_retry_awaits_the_first_request(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_retry())
    job = await harness.create_job(idempotency=make_retry(retry_count=2))
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)


async def test_first_request_after_a_refused_retry_shares_its_job_with_the_next_retry(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_retry())
    job = await harness.create_job(idempotency=make_first_request())
    assert await harness.store.find_by_idempotency("acme", make_retry(retry_count=2)) == DuplicateRequest(job.id)


async def test_late_first_request_of_a_refused_job_is_not_awaited_again(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=make_retry(), max_attempts=1)
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)
    await fail_job(harness, job)
    await harness.create_job(idempotency=make_retry(retry_count=2))
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_refusal_of_a_client_without_retry_count_is_ignored(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, job_factory.make_body_key(retry_count=UNCOUNTED))
    job = await harness.create_job(idempotency=make_retry())
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)


async def test_retry_gets_the_job_of_a_client_without_retry_count_last(harness: StoreHarness) -> None:
    uncounted = await harness.create_job(idempotency=job_factory.make_body_key(retry_count=UNCOUNTED))
    counted = await harness.create_job(idempotency=make_first_request())
    assert [await harness.store.find_by_idempotency("acme", make_retry()) for _ in range(2)] == [
        DuplicateRequest(counted.id),
        DuplicateRequest(uncounted.id),
    ]


async def test_refusal_expires_after_two_minutes(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    harness.advance_time(BODY_KEY_TTL_SECONDS)
    job = await harness.create_job(idempotency=make_retry())
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)


async def test_refusal_outlives_its_callers_connection_and_process(harness: StoreHarness) -> None:
    records = [make_first_request(), make_first_request()]
    await create_refused_jobs(harness, *records)
    await remove_callers(harness, records[0])
    await harness.reopen_after_kill()
    later_requests = [make_retry("two:1"), make_retry("two:2"), make_first_request("two:3")]
    assert [await harness.try_create_job(idempotency=record) for record in later_requests] == [Applied()] * 3


async def test_retry_over_budget_does_not_use_up_the_refusal(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    assert isinstance(await harness.try_create_job(idempotency=make_retry(), day=1), BudgetExceeded)
    await harness.create_job(idempotency=make_retry(retry_count=2))
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_retry_of_a_request_refused_by_its_process_awaits_no_first_request(harness: StoreHarness) -> None:
    """The first request never reached the store."""
    await harness.create_job(idempotency=replace(make_retry(), has_refused_first=True))
    assert await harness.try_create_job(idempotency=make_first_request()) == Applied()


async def test_oldest_of_too_many_refusals_is_dropped(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, *(make_first_request() for _ in range(MAX_REFUSALS + 1)))
    jobs = [await harness.create_job(idempotency=make_retry()) for _ in range(MAX_REFUSALS + 1)]
    outcomes = [await harness.try_create_job(idempotency=make_first_request()) for _ in range(2)]
    assert outcomes == [DuplicateRequest(jobs[-1].id), Applied()]


# --- callers of other processes


async def test_claim_removes_the_callers_of_a_crashed_owner(harness: StoreHarness) -> None:
    record = make_first_request("one:first")
    job = await harness.create_job(idempotency=record)
    harness.advance_time(LEASE_SECONDS)
    await harness.reopen("two")
    assert await harness.claim_job_ids() == {job.id}
    assert await harness.try_create_job(idempotency=make_first_request()) == DuplicateRequest(job.id)


async def test_claim_keeps_callers_of_other_replicas_and_jobs(shared_harness: StoreHarness) -> None:
    """If the claiming replica itself owned the job before, its connections still exist."""
    harness = shared_harness
    jobs = [await harness.create_job(idempotency=make_first_request(f"one:{number}")) for number in range(2)]
    async with harness.open_another("three") as three:
        assert await three.find_by_idempotency("acme", make_retry("three:1")) == DuplicateRequest(jobs[0].id)
        harness.advance_time(LEASE_SECONDS)
        assert await harness.claim_job_ids() == {job.id for job in jobs}
        assert await harness.try_create_job(idempotency=make_first_request("three:2")) == Applied()
        harness.advance_time(LEASE_SECONDS)
        await harness.reopen("two")
        await harness.claim_job_ids()
        outcomes = [
            await harness.try_create_job(idempotency=make_first_request(f"two:{number}")) for number in range(2)
        ]
        assert outcomes == [DuplicateRequest(jobs[1].id), Applied()]


async def test_claim_keeps_callers_of_jobs_that_the_former_owner_still_owns(shared_harness: StoreHarness) -> None:
    harness = shared_harness
    jobs = [await harness.create_job(idempotency=make_first_request(f"one:{number}")) for number in range(2)]
    async with harness.open_another("two") as two:
        harness.advance_time(LEASE_SECONDS)
        assert await harness.store.renew_leases({jobs[1].id: 1}) == frozenset()
        assert [claimed.job for claimed in await two.claim_jobs()] == [jobs[0]]
        outcomes = [
            await harness.try_create_job(idempotency=make_first_request(f"two:{number}")) for number in range(2)
        ]
        assert outcomes == [DuplicateRequest(jobs[0].id), Applied()]


async def test_callers_of_a_killed_process_are_removed_at_once(harness: StoreHarness) -> None:
    """Each of its jobs goes to one repeated request. The servers of a Cluster only see this when the job is claimed."""
    jobs = [
        await harness.create_job(idempotency=make_first_request("one:1")),
        await harness.create_job(idempotency=make_first_request("one:2")),
    ]
    await harness.reopen_after_kill()
    outcomes = [await harness.try_create_job(idempotency=make_first_request(f"two:{number}")) for number in range(3)]
    expected = (
        [Applied()] * 3
        if harness.store_kind == "clustered"
        else [DuplicateRequest(jobs[0].id), DuplicateRequest(jobs[1].id), Applied()]
    )
    assert outcomes == expected


async def test_callers_of_a_second_killed_process_are_removed_too(harness: StoreHarness) -> None:
    """The first process still owns the job."""
    if harness.store_kind == "clustered":
        return
    job = await harness.create_job(idempotency=make_first_request("one:1"))
    for owner in ("two", "three", "four"):
        await harness.reopen_after_kill(owner)
        assert await harness.try_create_job(idempotency=make_first_request(f"{owner}:1")) == DuplicateRequest(job.id)


async def test_callers_of_a_killed_process_are_removed_from_finished_jobs(harness: StoreHarness) -> None:
    """They may be unanswered. The servers of a Cluster do not see the kill, and no replica claims the job."""
    job = await harness.create_settled_job(idempotency=make_first_request("one:1"))
    await harness.reopen_after_kill()
    outcomes = [await harness.try_create_job(idempotency=make_first_request(f"two:{number}")) for number in range(2)]
    assert outcomes == [Applied() if harness.store_kind == "clustered" else DuplicateRequest(job.id), Applied()]


async def test_callers_of_a_closed_process_stay_at_finished_jobs(harness: StoreHarness) -> None:
    """They stay even after the next process was killed."""
    await harness.create_settled_job(idempotency=make_first_request("one:1"))
    await harness.reopen("two")
    assert await harness.try_create_job(idempotency=make_first_request("two:1"), max_attempts=1) == Applied()
    await harness.reopen_after_kill("three")
    outcomes = [await harness.try_create_job(idempotency=make_first_request(f"three:{number}")) for number in range(2)]
    assert [type(outcome) for outcome in outcomes] == [
        Applied if harness.store_kind == "clustered" else DuplicateRequest,
        Applied,
    ]


async def test_callers_stay_after_a_clean_close(harness: StoreHarness) -> None:
    """The process answered them with 202 and released their job."""
    job = await harness.create_job(idempotency=make_first_request("one:1"))
    assert await harness.store.release_job(job.id, 1, 0.0)
    await harness.reopen("two")
    assert await harness.claim_job_ids() == {job.id}
    assert await harness.try_create_job(idempotency=make_first_request("two:1")) == Applied()


async def test_callers_of_a_live_replica_stay(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        await shared_harness.create_job(idempotency=make_first_request("one:1"))
        assert await two.commit(shared_harness.make_create_commit(idempotency=make_first_request("two:1"))) == Applied()


# --- separate records


async def test_bodies_of_teams_are_separate(harness: StoreHarness) -> None:
    team, neighbour = job_factory.pick_teams_of_one_partition(2)
    await harness.create_job(team, idempotency=make_retry())
    assert await harness.store.find_by_idempotency(neighbour, make_retry()) is None
    assert await harness.try_create_job(neighbour, idempotency=make_first_request()) == Applied()


async def test_body_key_is_never_a_client_key(harness: StoreHarness) -> None:
    """Both have the same text here, and still identify different jobs."""
    await harness.create_job(idempotency=make_first_request(name="same"))
    assert await harness.try_create_job(idempotency=job_factory.make_client_key("same", "same")) == Applied()


async def test_client_key_outlives_its_job(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(idempotency=job_factory.make_client_key())
    harness.advance_time(10 * BODY_KEY_TTL_SECONDS)
    assert await harness.try_create_job(idempotency=job_factory.make_client_key()) == DuplicateRequest(job.id)


@pytest.mark.thorough
async def test_full_body_record_evicts_the_oldest_finished_job(harness: StoreHarness) -> None:
    await create_refused_jobs(harness, make_first_request())
    records = [make_first_request() for _ in range(MAX_ENTRIES)]
    jobs = [await harness.create_job(idempotency=record) for record in records]
    await harness.apply_updates(
        jobs[3],
        job_factory.make_attempt_started(jobs[3]),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(jobs[3]),
    )
    records.append(make_first_request())
    jobs.append(await harness.create_job(idempotency=records[-1]))
    records.append(make_first_request())
    jobs.append(await harness.create_job(idempotency=records[-1]))
    await remove_callers(harness, *records)
    matches = [await harness.store.find_by_idempotency("acme", make_retry()) for _ in range(MAX_ENTRIES)]
    kept_jobs = [job for number, job in enumerate(jobs) if number not in (0, 3)]
    assert matches == [DuplicateRequest(job.id) for job in kept_jobs]
    assert await harness.store.find_by_idempotency("acme", make_retry()) is None
