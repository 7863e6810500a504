"""A day whose ledger is forgotten while one of its jobs is still open."""

from gateway.store.base import Retention
from gateway.store.books import Balance
from tests.store.orders import CEILING, DAY, PRICE, at
from tests.store.worlds import World

ONE_DAY = 86_400.0


async def test_forgetting_leaves_nothing_for_the_auditor_to_find(world: World) -> None:
    for _ in range(3):
        await world.bought()
        await world.accepted()
        world.passes(40 * ONE_DAY)
        await world.store.sweep()
        for partition in world.store.partitions:
            assert (await world.store.audit(partition)).violations == 0
    assert (await world.store.budget("acme", DAY))[DAY] == Balance(held=CEILING, spent=PRICE)


async def test_days_of_a_month_that_is_not_over_are_kept_however_soon_they_may_be_forgotten(world: World) -> None:
    """The month's sum is audited against its days: without them it would look like money that was made up."""
    world.clock.now = at("2040-05-03T12:00:00")
    store = await world.reopened(retention=Retention(jobs=60.0, ledger=ONE_DAY, totals=3 * ONE_DAY))
    await world.bought()
    world.passes(20 * ONE_DAY)
    await store.sweep()
    for partition in store.partitions:
        assert (await store.audit(partition)).violations == 0
    assert (await store.budget("acme", "2040-05"))["2040-05"] == Balance(spent=PRICE)
    assert [total.amount for total in await store.usage("2040-05-01", "2040-05-31")] == [PRICE]
