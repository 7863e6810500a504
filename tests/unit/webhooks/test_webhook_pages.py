"""A sender reads more webhooks at once while more may be due, and not only after its interval."""

import asyncio

import pytest

from gateway.webhooks import webhook_sender
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.webhooks.webhook_world import OTHER_TEAM, WebhookReplica, WebhookWorld, answer_always

INTERVAL_SECONDS = 60.0


async def open_world() -> WebhookWorld:
    world = WebhookWorld(interval_seconds=INTERVAL_SECONDS)
    await world.open()
    return world


async def hand_over_webhooks(world: WebhookWorld) -> None:
    """Makes the records of all webhooks in the outbox, without sending any."""
    replica = WebhookReplica(world, "stopped")
    await replica.store.open()
    for claimed in await replica.store.claim_deliveries(limit=1_000):
        await replica.sender._hand_over(claimed)
    await replica.store.close()


@in_virtual_time
async def test_webhooks_behind_those_that_were_taken_at_once_do_not_wait_for_the_interval() -> None:
    world = await open_world()
    for number in range(webhook_sender.MAX_HANDED_OVER + 1):
        await world.end_job(f"https://hooks-{number}.example.com/")
    await world.start_replica()
    await asyncio.sleep(INTERVAL_SECONDS / 2)
    assert len(world.received) == webhook_sender.MAX_HANDED_OVER + 1


@in_virtual_time
async def test_page_behind_a_full_one_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The webhooks of a silent target fill more than one page. Those that would wait for too long are put off."""
    monkeypatch.setattr(webhook_sender, "PAGE_RECORDS", 100)
    world = await open_world()
    world.behaviours["dead.example.com"] = answer_always(None)
    for _ in range(200):
        await world.end_job("https://dead.example.com/")
    await hand_over_webhooks(world)
    await asyncio.sleep(1.0)
    await world.end_job("https://alive.example.com/", OTHER_TEAM)
    await hand_over_webhooks(world)
    await world.start_replica()
    await asyncio.sleep(INTERVAL_SECONDS / 2)
    assert len(list(world.iterate_accepted())) == 1
