"""The webhook outbox: each webhook is leased to the replica that sends it, until it is delivered."""

from gateway.jobs.commit import WebhookDelivery
from gateway.jobs.job_update_types import CancelRequested
from gateway.store.base import ClaimedDelivery
from tests.store import job_factory
from tests.store.store_harness import StoreHarness


async def create_delivery(harness: StoreHarness, team: str = "acme") -> WebhookDelivery:
    job = await harness.create_job(team, has_webhook=True)
    commit = job_factory.make_update_commit(job, CancelRequested(), harness.now)
    await harness.apply_commit(commit)
    (delivery,) = commit.webhook_deliveries
    return delivery


async def test_no_delivery_exists_before_the_job_ends(harness: StoreHarness) -> None:
    await harness.create_job(has_webhook=True)
    assert await harness.store.claim_deliveries() == ()


async def test_job_without_webhook_has_no_delivery(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    assert await harness.store.claim_deliveries() == ()


async def test_delivery_is_created_by_the_commit_that_ends_the_job(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    assert await harness.store.claim_deliveries() == (ClaimedDelivery(delivery=delivery, attempts=1),)


async def test_delivery_can_be_claimed_again_after_its_lease(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    for attempts in (1, 2, 3):
        assert await harness.store.claim_deliveries(lease=30.0) == (
            ClaimedDelivery(delivery=delivery, attempts=attempts),
        )
        await advance_until_due(harness, 30.0)


async def advance_until_due(harness: StoreHarness, seconds: float) -> None:
    """Advances the time by as much, shortly before which no delivery may be claimed."""
    harness.advance_time(seconds - 0.1)
    assert await harness.store.claim_deliveries() == ()
    harness.advance_time(0.1)


async def test_default_delivery_lease_is_one_minute(harness: StoreHarness) -> None:
    await create_delivery(harness)
    await harness.store.claim_deliveries()
    await advance_until_due(harness, 60.0)
    assert len(await harness.store.claim_deliveries()) == 1


async def test_acknowledged_delivery_is_not_claimed_again(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    await harness.store.claim_deliveries()
    await harness.store.ack_delivery(delivery.id, delivery.job)
    harness.advance_time(1000.0)
    assert await harness.store.claim_deliveries() == ()


async def test_retried_delivery_is_due_after_its_delay(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    await harness.store.claim_deliveries()
    await harness.store.retry_delivery(delivery.id, delivery.job, 300.0)
    await advance_until_due(harness, 300.0)
    assert await harness.store.claim_deliveries() == (ClaimedDelivery(delivery=delivery, attempts=2),)


async def test_retried_delivery_may_be_due_before_its_lease_ends(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    await harness.store.claim_deliveries(lease=60.0)
    await harness.store.retry_delivery(delivery.id, delivery.job, 5.0)
    harness.advance_time(5.0)
    assert len(await harness.store.claim_deliveries()) == 1


async def test_acknowledged_delivery_cannot_be_retried(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    await harness.store.claim_deliveries()
    await harness.store.ack_delivery(delivery.id, delivery.job)
    await harness.store.ack_delivery(delivery.id, delivery.job)
    await harness.store.retry_delivery(delivery.id, delivery.job, 0.0)
    assert await harness.store.claim_deliveries() == ()


async def test_oldest_deliveries_are_claimed_first(harness: StoreHarness) -> None:
    created = []
    for team in job_factory.pick_teams_of_different_partitions(5)[::-1]:
        created.append(await create_delivery(harness, team))
        harness.advance_time(1.0)
    first = await harness.store.claim_deliveries(limit=2)
    rest = await harness.store.claim_deliveries()
    assert [claimed.delivery for claimed in (*first, *rest)] == created
    assert len(first) == 2


async def test_repeated_commit_creates_no_second_delivery(harness: StoreHarness) -> None:
    job = await harness.create_job(has_webhook=True)
    ending = job_factory.make_update_commit(job, CancelRequested(), harness.now)
    await harness.apply_commit(ending)
    (claimed,) = await harness.store.claim_deliveries()
    await harness.store.ack_delivery(claimed.delivery.id, job.id)
    await harness.apply_commit(ending)
    assert await harness.store.claim_deliveries() == ()


async def test_replicas_never_claim_the_same_delivery(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        for team in job_factory.pick_teams_of_different_partitions(10):
            await create_delivery(shared_harness, team)
        stores = [shared_harness.store, two] * 3
        claimed_deliveries = [
            claimed
            for batch in await job_factory.gather_all(store.claim_deliveries() for store in stores)
            for claimed in batch
        ]
        assert len({claimed.delivery.id for claimed in claimed_deliveries}) == len(claimed_deliveries) == 10


async def test_webhook_is_deleted_with_its_job(harness: StoreHarness) -> None:
    deleted, kept = await create_delivery(harness), await create_delivery(harness)
    assert len(await harness.store.claim_deliveries(lease=30.0)) == 2
    await harness.store.delete_job(deleted.job)
    harness.advance_time(31.0)
    assert await harness.store.claim_deliveries() == (ClaimedDelivery(delivery=kept, attempts=2),)


async def test_webhook_of_a_deleted_job_cannot_be_scheduled_again(harness: StoreHarness) -> None:
    delivery = await create_delivery(harness)
    await harness.store.claim_deliveries()
    await harness.store.delete_job(delivery.job)
    await harness.store.retry_delivery(delivery.id, delivery.job, 5.0)
    harness.advance_time(100.0)
    assert await harness.store.claim_deliveries() == ()
