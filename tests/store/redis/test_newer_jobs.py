"""Jobs that a newer version has written: this one leaves them alone and serves all others."""

import pytest

from gateway.store.base import Applied, StoreError
from tests.store import orders
from tests.store.orders import NOON
from tests.store.redis.stories import opened, run
from tests.store.servers import Server


def test_a_job_that_cannot_be_read_is_left_alone_and_told_of(emptied: None, single_server: Server) -> None:
    async def story() -> None:
        clock = orders.Clock()
        async with opened(single_server.url, clock=clock) as store:
            strange, known = orders.acceptance(NOON), orders.acceptance(NOON + 1)
            assert {await store.commit(commit) for commit in (strange, known)} == {Applied()}
            key = f"igw:{{{strange.job.id[4:6]}}}:job:{strange.job.id}"
            newer = strange.blob.replace(b'"created"', b'"made"')
            single_server.cli("HSET", key, "blob", newer)
            assert store.warnings == ()
            clock.now += 60
            assert [claimed.job for claimed in await store.claim()] == [known.job]
            assert (await store.list("acme")).jobs == (known.job,)
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.load(strange.job.id)
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.audit(int(strange.job.id[4:6]))
            assert strange.job.id in " ".join(store.warnings)
            assert single_server.cli("HGET", key, "blob") == newer
        single_server.cli("DEL", "igw:runs")
        async with opened(single_server.url, clock=clock) as store:
            assert await store.load(known.job.id) == known.job

    run(story())
