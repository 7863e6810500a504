"""What a caller's key has become before, told without anything being accepted: by the rules of accepting."""

from gateway.jobs.commit import IdempotencyRecord
from gateway.jobs.facts import JobWithdrawn
from gateway.jobs.job import CONFIRM_SECONDS
from gateway.store.base import KeyReused, Known, OverBudget
from tests.store import orders
from tests.store.worlds import World


async def recalled(world: World, record: IdempotencyRecord, team: str = "acme") -> Known | KeyReused | None:
    """After which nothing at all may be different."""
    before = world.raw.dump()
    found = await world.store.recall(team, record)
    assert world.raw.dump() == before
    return found


async def test_what_was_never_asked_is_not_known(world: World) -> None:
    await world.accepted()
    assert await recalled(world, orders.key()) is None


async def test_a_key_is_known_while_its_job_runs_and_when_it_has_ended(world: World) -> None:
    job = await world.accepted(idempotency=orders.key())
    assert await recalled(world, orders.key()) == Known(job.id)
    await world.happens(job, orders.opened(job), orders.ticket(), orders.delivered(job))
    assert await recalled(world, orders.key()) == Known(job.id)


async def test_a_key_that_came_with_another_body_is_told_apart(world: World) -> None:
    job = await world.accepted(idempotency=orders.key())
    assert await recalled(world, orders.key(fingerprint="body-2")) == KeyReused(job.id)


async def test_another_key_is_not_known(world: World) -> None:
    await world.accepted(idempotency=orders.key())
    assert await recalled(world, orders.key("key-2")) is None


async def test_another_teams_key_is_not_known(world: World) -> None:
    ours, neighbour = orders.teams_of_one_partition(2)
    _, stranger = orders.teams_of_different_partitions(2)
    await world.accepted(ours, idempotency=orders.key())
    for team in (neighbour, stranger):
        assert await recalled(world, orders.key(), team) is None


async def test_a_key_is_known_for_its_time_from_the_request(world: World) -> None:
    job = await world.bought(idempotency=orders.key(seconds=100.0))
    world.passes(99)
    assert await recalled(world, orders.key()) == Known(job.id)
    world.passes(1)
    assert await recalled(world, orders.key()) is None


async def test_a_refused_request_leaves_its_key_unknown(world: World) -> None:
    assert isinstance(await world.tried(idempotency=orders.key(), day=1), OverBudget)
    assert await recalled(world, orders.key()) is None


async def test_whoever_neither_has_a_key_nor_repeats_does_not_even_ask_the_store(world: World) -> None:
    closed = world.store
    await world.reopened()
    assert await closed.recall("acme", orders.soft(attach=False)) is None


async def test_it_is_known_after_a_restart(world: World) -> None:
    job = await world.accepted(idempotency=orders.key())
    await world.reopened()
    assert await recalled(world, orders.key()) == Known(job.id)


async def test_it_is_known_wherever_it_is_asked_for(replicas: World) -> None:
    job = await replicas.accepted(idempotency=orders.key())
    async with replicas.another() as other:
        assert await other.recall("acme", orders.key()) == Known(job.id)


async def test_a_withdrawn_job_leaves_its_key_to_the_next_request(world: World) -> None:
    job = await world.accepted(idempotency=orders.key())
    world.passes(CONFIRM_SECONDS)
    (claimed,) = await world.store.claim()
    await world.happens(job, JobWithdrawn(fence=claimed.fence))
    assert await recalled(world, orders.key()) is None
    again = await world.accepted(idempotency=orders.key(fingerprint="body-2"))
    assert await recalled(world, orders.key(fingerprint="body-2")) == Known(again.id)


async def test_a_withdrawn_job_leaves_a_key_that_belongs_to_another_by_now(world: World) -> None:
    old = await world.accepted(idempotency=orders.key(seconds=10.0))
    world.passes(CONFIRM_SECONDS)
    again = await world.accepted(idempotency=orders.key())
    (claimed,) = await world.store.claim()
    await world.happens(old, JobWithdrawn(fence=claimed.fence))
    assert await recalled(world, orders.key()) == Known(again.id)
