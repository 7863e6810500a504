"""Names of teams and keys that contain separators do not collide."""

from itertools import count

from gateway.store.base import Applied
from gateway.store.partitions import team_partition
from tests.store import job_factory
from tests.store.store_harness import StoreHarness


async def test_team_and_key_with_separators_do_not_collide(harness: StoreHarness) -> None:
    """Team `a` with key `b:c`, and team `a:b` with key `c`."""
    first, second = next((f"a{n}", f"a{n}:b") for n in count() if team_partition(f"a{n}") == team_partition(f"a{n}:b"))
    await harness.create_job(first, idempotency=job_factory.make_client_key("b:c"))
    assert (
        await harness.try_create_job(second, idempotency=job_factory.make_client_key("c", "another body")) == Applied()
    )
