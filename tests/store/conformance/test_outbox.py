"""Webhooks on their way out: leased to whoever sends them, until they have arrived."""

from gateway.jobs.commit import Delivery
from gateway.jobs.facts import CancelAsked
from gateway.store.base import Outgoing
from tests.store import orders
from tests.store.worlds import World


async def ended(world: World, team: str = "acme") -> Delivery:
    job = await world.accepted(team, webhook=True)
    commit = orders.changed(job, CancelAsked(), world.now)
    await world.done(commit)
    (delivery,) = commit.webhooks
    return delivery


async def test_nothing_is_sent_before_a_job_ends(world: World) -> None:
    await world.accepted(webhook=True)
    assert await world.store.claim_deliveries() == ()


async def test_a_job_that_asked_for_none_sends_none(world: World) -> None:
    await world.bought()
    assert await world.store.claim_deliveries() == ()


async def test_it_is_there_with_the_commit_that_ends_the_job(world: World) -> None:
    delivery = await ended(world)
    assert await world.store.claim_deliveries() == (Outgoing(delivery=delivery, tries=1),)


async def test_it_is_leased_and_comes_again_when_the_lease_is_over(world: World) -> None:
    delivery = await ended(world)
    for tries in (1, 2, 3):
        assert await world.store.claim_deliveries(lease=30.0) == (Outgoing(delivery=delivery, tries=tries),)
        world.passes(29.9)
        assert await world.store.claim_deliveries() == ()
        world.passes(0.1)


async def test_the_usual_lease_is_a_minute(world: World) -> None:
    await ended(world)
    await world.store.claim_deliveries()
    world.passes(59.9)
    assert await world.store.claim_deliveries() == ()
    world.passes(0.1)
    assert len(await world.store.claim_deliveries()) == 1


async def test_what_has_arrived_is_not_sent_again(world: World) -> None:
    delivery = await ended(world)
    await world.store.claim_deliveries()
    await world.store.delivered(delivery.id, delivery.job)
    world.passes(1000.0)
    assert await world.store.claim_deliveries() == ()


async def test_what_did_not_arrive_is_tried_again_when_it_was_said(world: World) -> None:
    delivery = await ended(world)
    await world.store.claim_deliveries()
    await world.store.postpone(delivery.id, delivery.job, 300.0)
    world.passes(299.9)
    assert await world.store.claim_deliveries() == ()
    world.passes(0.1)
    assert await world.store.claim_deliveries() == (Outgoing(delivery=delivery, tries=2),)


async def test_it_may_be_tried_again_sooner_than_its_lease_ends(world: World) -> None:
    delivery = await ended(world)
    await world.store.claim_deliveries(lease=60.0)
    await world.store.postpone(delivery.id, delivery.job, 5.0)
    world.passes(5.0)
    assert len(await world.store.claim_deliveries()) == 1


async def test_what_has_arrived_cannot_be_postponed_into_being_again(world: World) -> None:
    delivery = await ended(world)
    await world.store.claim_deliveries()
    await world.store.delivered(delivery.id, delivery.job)
    await world.store.delivered(delivery.id, delivery.job)
    await world.store.postpone(delivery.id, delivery.job, 0.0)
    assert await world.store.claim_deliveries() == ()


async def test_those_are_sent_first_that_have_waited_longest(world: World) -> None:
    waiting = []
    for team in orders.teams_of_different_partitions(5)[::-1]:
        waiting.append(await ended(world, team))
        world.passes(1.0)
    first = await world.store.claim_deliveries(most=2)
    rest = await world.store.claim_deliveries()
    assert [one.delivery for one in (*first, *rest)] == waiting
    assert len(first) == 2


async def test_a_commit_sent_again_sends_no_second_webhook(world: World) -> None:
    job = await world.accepted(webhook=True)
    ending = orders.changed(job, CancelAsked(), world.now)
    await world.done(ending)
    (one,) = await world.store.claim_deliveries()
    await world.store.delivered(one.delivery.id, job.id)
    await world.done(ending)
    assert await world.store.claim_deliveries() == ()


async def test_two_replicas_never_send_the_same_one_at_once(replicas: World) -> None:
    async with replicas.another("two") as two:
        for team in orders.teams_of_different_partitions(10):
            await ended(replicas, team)
        stores = [replicas.store, two] * 3
        taken = [one for some in await orders.together(store.claim_deliveries() for store in stores) for one in some]
        assert len({one.delivery.id for one in taken}) == len(taken) == 10
