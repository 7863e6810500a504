"""Webhooks to targets that admins added: whichever replica has added, changed or removed them."""

import asyncio
from typing import Any

from msgspec.structs import replace

from gateway.config.value_types import Secret
from gateway.store.webhook_targets import StoredSecret, StoredTarget, load_team_targets, save_team_targets
from gateway.webhooks.signature import build_signed_headers
from gateway.webhooks.webhook_records import (
    TEST_EVENT,
    DeliveryStatus,
    WebhookOutcome,
    WebhookRecord,
    encode_delivery,
)
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.webhooks.webhook_world import (
    OLD_SECRET,
    SECRET,
    TEAM,
    ReceivedWebhook,
    WebhookWorld,
    answer_after,
    answer_always,
)

HOST, NEW_HOST = "stored.example.com", "new.example.com"
TEAM_SECRET = Secret("whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVhbSwgYXMgaXQgaXM=")


async def open_world() -> WebhookWorld:
    world = WebhookWorld(secrets=(TEAM_SECRET,))
    await world.open()
    return world


async def store_targets(world: WebhookWorld, *targets: StoredTarget) -> None:
    """Replaces the targets of the team, as the administration at another replica does."""
    stored = await load_team_targets(world.store, TEAM, world.now())
    assert await save_team_targets(world.store, replace(stored, targets=targets))


def make_target(**changes: Any) -> StoredTarget:
    fields = {"name": "stored", "url": f"https://{HOST}/", "events": ("job.cancelled",), "created_at": 1.0}
    return StoredTarget(**{**fields, **changes})


def make_secret(secret: Secret, expires_at: float | None = None) -> StoredSecret:
    return StoredSecret(value=secret.reveal(), created_at=1.0, expires_at=expires_at)


def list_signers(webhook: ReceivedWebhook) -> list[Secret]:
    """Lists the secrets with which a webhook is signed, in the order of its signatures."""
    at = float(webhook.headers["webhook-timestamp"])
    by_signature = {
        build_signed_headers(webhook.id, at, webhook.body, [secret])["webhook-signature"]: secret
        for secret in (SECRET, OLD_SECRET, TEAM_SECRET)
    }
    return [by_signature[signature] for signature in webhook.headers["webhook-signature"].split()]


@in_virtual_time
async def test_target_that_another_replica_added_a_moment_ago_gets_the_webhook() -> None:
    world = await open_world()
    await world.start_replica()
    await store_targets(world, make_target(secrets=(make_secret(SECRET),)))
    await world.end_job(None)
    await asyncio.sleep(3.0)
    [webhook] = world.received
    assert (webhook.url, list_signers(webhook)) == (f"https://{HOST}/", [SECRET])
    [record] = world.list_records()
    assert (record.target, record.host, record.status) == ("stored", HOST, DeliveryStatus.DELIVERED)


@in_virtual_time
async def test_test_of_a_target_uses_what_another_replica_changed_a_moment_ago() -> None:
    world = await open_world()
    await store_targets(world, make_target())
    replica = await world.start_replica()
    await replica.stored_targets.refresh()
    await store_targets(world, make_target(url=f"https://{NEW_HOST}/", secrets=(make_secret(SECRET),)))
    now = world.now()
    test = WebhookRecord(
        id="delivery", team=TEAM, created_at=now, event=TEST_EVENT, target="stored", host=HOST, due_at=now
    )
    assert await world.store.team_records.save(encode_delivery(test), 0.0)
    await asyncio.sleep(3.0)
    [webhook] = world.received
    assert (webhook.url, list_signers(webhook)) == (f"https://{NEW_HOST}/", [SECRET])


@in_virtual_time
async def test_target_without_a_secret_is_signed_with_those_of_its_team() -> None:
    world = await open_world()
    await world.start_replica()
    await store_targets(world, make_target())
    await world.end_job(None)
    await asyncio.sleep(3.0)
    assert list_signers(world.received[0]) == [TEAM_SECRET]
    world.secrets = ()
    await world.end_job(None)
    await asyncio.sleep(3.0)
    assert [record.attempts[-1].outcome for record in world.list_records()][-1] is WebhookOutcome.NO_SECRET


@in_virtual_time
async def test_webhook_has_both_signatures_until_the_old_secret_expires() -> None:
    world = await open_world()
    await world.start_replica()
    secrets = (make_secret(SECRET), make_secret(OLD_SECRET, world.now() + 100.0))
    await store_targets(world, make_target(secrets=secrets))
    for expected in ([SECRET, OLD_SECRET], [SECRET]):
        await world.end_job(None)
        await asyncio.sleep(3.0)
        assert list_signers(world.received[-1]) == expected
        await asyncio.sleep(100.0)


@in_virtual_time
async def test_pending_webhook_goes_to_the_changed_url() -> None:
    world = await open_world()
    world.behaviours[HOST] = answer_always(503)
    replica = await world.start_replica()
    await store_targets(world, make_target())
    await world.end_job(None)
    await asyncio.sleep(3.0)
    await store_targets(world, make_target(url=f"https://{NEW_HOST}/"))
    await replica.stored_targets.refresh()
    await asyncio.sleep(10.0)
    assert world.received[-1].url == f"https://{NEW_HOST}/"
    assert len(world.group_received()) == 1


@in_virtual_time
async def test_pending_webhooks_of_removed_and_disabled_targets_are_given_up() -> None:
    world = await open_world()
    world.behaviours[HOST] = answer_always(503)
    replica = await world.start_replica()
    await store_targets(world, make_target(), make_target(name="removed"))
    await world.end_job(None)
    await asyncio.sleep(3.0)
    await store_targets(world, make_target(is_enabled=False))
    await replica.stored_targets.refresh()
    await asyncio.sleep(10.0)
    records = world.list_records()
    assert sorted(record.target for record in records) == ["removed", "stored"]
    assert {record.attempts[-1].outcome for record in records} == {WebhookOutcome.TARGET_REMOVED}
    assert {record.status for record in records} == {DeliveryStatus.FAILED}


@in_virtual_time
async def test_replica_that_does_not_have_the_target_yet_gives_no_webhook_up() -> None:
    world = await open_world()
    world.behaviours[HOST] = answer_after(world.now() + 4.0)
    first = await world.start_replica()
    await store_targets(world, make_target())
    await world.end_job(None)
    await asyncio.sleep(3.0)
    await first.stop()
    second = await world.start_replica()
    assert second.catalogue.get().get_webhook_targets(TEAM) == {}
    await asyncio.sleep(10.0)
    [record] = world.list_records()
    assert record.status is DeliveryStatus.DELIVERED


@in_virtual_time
async def test_target_gets_only_the_events_that_it_asks_for() -> None:
    world = await open_world()
    await world.start_replica()
    await store_targets(world, make_target(), make_target(name="failures", events=("job.failed",)))
    await world.end_job(None)
    await asyncio.sleep(3.0)
    assert [record.target for record in world.list_records()] == ["stored"]
