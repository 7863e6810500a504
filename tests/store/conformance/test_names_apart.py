"""Where one name ends and the next begins is never in doubt."""

from itertools import count

from gateway.store.base import Applied
from gateway.store.partitions import partition_of
from tests.store import orders
from tests.store.worlds import World


async def test_no_teams_key_is_another_teams_by_where_a_name_ends(world: World) -> None:
    """`a` with the key `b:c`, and `a:b` with the key `c`."""
    first, second = next((f"a{n}", f"a{n}:b") for n in count() if partition_of(f"a{n}") == partition_of(f"a{n}:b"))
    await world.accepted(first, idempotency=orders.key("b:c"))
    assert await world.tried(second, idempotency=orders.key("c", "another body")) == Applied()
