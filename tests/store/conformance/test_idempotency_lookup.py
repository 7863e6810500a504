"""Looking up the job of an idempotency key finds what a commit would find, and creates nothing."""

from gateway.jobs.commit import IdempotencyRecord
from gateway.jobs.job_update_types import JobWithdrawn
from gateway.store.base import BudgetExceeded, DuplicateRequest, IdempotencyKeyReused
from gateway.timeouts_and_intervals import JobTiming
from tests.store import job_factory
from tests.store.store_harness import StoreHarness

CONFIRMATION_TIMEOUT_SECONDS = JobTiming().confirmation_timeout_seconds


async def find_without_change(
    harness: StoreHarness, record: IdempotencyRecord, team: str = "acme"
) -> DuplicateRequest | IdempotencyKeyReused | None:
    """Looks up, and asserts that the store is unchanged."""
    before = harness.raw_store.dump_everything()
    match = await harness.store.find_by_idempotency(team, record)
    assert harness.raw_store.dump_everything() == before
    return match


async def test_unused_key_is_not_found(harness: StoreHarness) -> None:
    await harness.create_job()
    assert await find_without_change(harness, job_factory.make_client_key()) is None


async def test_key_is_found_during_and_after_its_job(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=job_factory.make_client_key())
    assert await find_without_change(harness, job_factory.make_client_key()) == DuplicateRequest(job.id)
    await harness.apply_updates(
        job,
        job_factory.make_attempt_started(job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(job),
    )
    assert await find_without_change(harness, job_factory.make_client_key()) == DuplicateRequest(job.id)


async def test_key_with_another_body_is_key_reused(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=job_factory.make_client_key())
    assert await find_without_change(
        harness, job_factory.make_client_key(fingerprint="body-2")
    ) == IdempotencyKeyReused(job.id)


async def test_another_key_is_not_found(harness: StoreHarness) -> None:
    await harness.create_job(idempotency=job_factory.make_client_key())
    assert await find_without_change(harness, job_factory.make_client_key("key-2")) is None


async def test_key_of_another_team_is_not_found(harness: StoreHarness) -> None:
    team_with_job, neighbour_team = job_factory.pick_teams_of_one_partition(2)
    _, distant_team = job_factory.pick_teams_of_different_partitions(2)
    await harness.create_job(team_with_job, idempotency=job_factory.make_client_key())
    for team in (neighbour_team, distant_team):
        assert await find_without_change(harness, job_factory.make_client_key(), team) is None


async def test_key_is_found_until_its_ttl_ends(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(idempotency=job_factory.make_client_key(ttl_seconds=100.0))
    harness.advance_time(99)
    assert await find_without_change(harness, job_factory.make_client_key()) == DuplicateRequest(job.id)
    harness.advance_time(1)
    assert await find_without_change(harness, job_factory.make_client_key()) is None


async def test_refused_request_does_not_store_its_key(harness: StoreHarness) -> None:
    assert isinstance(await harness.try_create_job(idempotency=job_factory.make_client_key(), day=1), BudgetExceeded)
    assert await find_without_change(harness, job_factory.make_client_key()) is None


async def test_first_request_without_key_needs_no_lookup(harness: StoreHarness) -> None:
    closed = harness.store
    await harness.reopen()
    assert await closed.find_by_idempotency("acme", job_factory.make_body_key(retry_count=False)) is None


async def test_key_is_found_after_a_restart(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=job_factory.make_client_key())
    await harness.reopen()
    assert await find_without_change(harness, job_factory.make_client_key()) == DuplicateRequest(job.id)


async def test_key_is_found_by_every_replica(shared_harness: StoreHarness) -> None:
    job = await shared_harness.create_job(idempotency=job_factory.make_client_key())
    async with shared_harness.open_another() as other:
        assert await other.find_by_idempotency("acme", job_factory.make_client_key()) == DuplicateRequest(job.id)


async def test_withdrawn_job_frees_its_key(harness: StoreHarness) -> None:
    job = await harness.create_job(idempotency=job_factory.make_client_key())
    harness.advance_time(CONFIRMATION_TIMEOUT_SECONDS)
    (claimed,) = await harness.store.claim_jobs()
    await harness.apply_updates(job, JobWithdrawn(fence=claimed.fence))
    assert await find_without_change(harness, job_factory.make_client_key()) is None
    again = await harness.create_job(idempotency=job_factory.make_client_key(fingerprint="body-2"))
    assert await find_without_change(harness, job_factory.make_client_key(fingerprint="body-2")) == DuplicateRequest(
        again.id
    )


async def test_withdrawn_job_keeps_a_key_that_another_job_has_taken(harness: StoreHarness) -> None:
    old = await harness.create_job(idempotency=job_factory.make_client_key(ttl_seconds=10.0))
    harness.advance_time(CONFIRMATION_TIMEOUT_SECONDS)
    again = await harness.create_job(idempotency=job_factory.make_client_key())
    (claimed,) = await harness.store.claim_jobs()
    await harness.apply_updates(old, JobWithdrawn(fence=claimed.fence))
    assert await find_without_change(harness, job_factory.make_client_key()) == DuplicateRequest(again.id)
