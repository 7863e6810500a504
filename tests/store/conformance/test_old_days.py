"""A day whose ledger is forgotten while one of its jobs is still open."""

from gateway.store.books import Balance
from tests.store.orders import CEILING, DAY, PRICE
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
