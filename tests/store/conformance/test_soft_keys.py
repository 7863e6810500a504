"""A body's own key: only a request that says it is a repetition attaches to the job before it."""

from gateway.jobs.commit import SOFT_KEY_SECONDS
from gateway.jobs.facts import CancelAsked
from gateway.store.base import Applied, Known
from tests.store import orders
from tests.store.worlds import World


async def test_a_repetition_attaches(world: World) -> None:
    job = await world.accepted(idempotency=orders.soft(attach=False))
    assert await world.unchanged_by(world.acceptance(idempotency=orders.soft(attach=True))) == [Known(job.id)]


async def test_a_repetition_of_what_was_never_asked_is_a_new_job(world: World) -> None:
    assert await world.tried(idempotency=orders.soft(attach=True)) == Applied()


async def test_any_other_request_is_a_new_job_and_takes_the_key_over(world: World) -> None:
    await world.accepted(idempotency=orders.soft(attach=False))
    second = await world.accepted(idempotency=orders.soft(attach=False))
    assert await world.tried(idempotency=orders.soft(attach=True)) == Known(second.id)


async def test_it_attaches_as_long_as_the_job_runs(world: World) -> None:
    job = await world.accepted(idempotency=orders.soft(attach=False))
    world.passes(10 * SOFT_KEY_SECONDS)
    assert await world.tried(idempotency=orders.soft(attach=True)) == Known(job.id)


async def test_it_lingers_after_the_jobs_end(world: World) -> None:
    job = await world.bought(idempotency=orders.soft(attach=False))
    world.passes(SOFT_KEY_SECONDS - 1)
    assert await world.tried(idempotency=orders.soft(attach=True)) == Known(job.id)
    world.passes(1)
    assert await world.tried(idempotency=orders.soft(attach=True)) == Applied()


async def test_the_end_of_a_job_that_it_was_taken_over_from_is_nothing_to_it(world: World) -> None:
    first = await world.accepted(idempotency=orders.soft(attach=False))
    second = await world.accepted(idempotency=orders.soft(attach=False))
    await world.happens(first, CancelAsked())
    world.passes(2 * SOFT_KEY_SECONDS)
    assert await world.tried(idempotency=orders.soft(attach=True)) == Known(second.id)


async def test_a_bodys_key_is_never_a_callers(world: World) -> None:
    """Though the two look alike."""
    await world.accepted(idempotency=orders.soft(attach=False, name="same"))
    assert await world.tried(idempotency=orders.key("same", "same")) == Applied()


async def test_a_callers_key_does_not_end_with_its_job(world: World) -> None:
    job = await world.bought(idempotency=orders.key())
    world.passes(10 * SOFT_KEY_SECONDS)
    assert await world.tried(idempotency=orders.key()) == Known(job.id)
