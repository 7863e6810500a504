"""Teams may be called anything, and what callers write never becomes part of a name."""

import pytest

from gateway.store.base import Known
from gateway.store.partitions import PARTITIONS, partition_of
from tests.store import orders
from tests.store.orders import CEILING, DAY, MONTH, PRICE
from tests.store.raw_redis import RawRedis
from tests.store.worlds import LEASE, World

ODD = [
    *("with spaces", " ", "{braces}", "}{", "{}", "{07}", "a:b:c", ":", "*", "?[a]", "'; DROP TABLE jobs; --", '"'),
    *("Ünïcødé", "日本", "\N{ZERO WIDTH JOINER}", "🎨", "new\nline", "tab\t", "nul\x00nul", "%s", "\\", "x" * 1000),
]


@pytest.mark.parametrize("team", ODD, ids=lambda team: ascii(team)[:20])
async def test_a_team_may_be_called_anything(world: World, team: str) -> None:
    job = await world.bought(team, webhook=True, idempotency=orders.key(), documents={"request": b"{}"})
    open_job = await world.accepted(team)
    assert await world.store.load(job.id) == job
    assert set((await world.store.list(team)).jobs) == {job, open_job}
    balance = (await world.store.budget(team, DAY, MONTH))[MONTH]
    assert (balance.held, balance.spent) == (CEILING, PRICE)
    assert await world.tried(team, idempotency=orders.key()) == Known(job.id)
    assert [entry.team for entry in await world.store.ledger(DAY, team)] == [team]
    assert [total.account.team for total in await world.store.usage(DAY, DAY, team)] == [team]
    (outgoing,) = await world.store.claim_deliveries()
    await world.store.delivered(outgoing.delivery.id, job.id)
    for partition in world.store.partitions:
        assert (await world.store.audit(partition)).violations == 0
    world.passes(LEASE)
    assert await world.claimable() == {open_job.id}


async def test_teams_whose_names_look_alike_are_different(world: World) -> None:
    for team in ODD:
        await world.accepted(team)
    for team in ODD:
        assert len((await world.store.list(team)).jobs) == 1
        assert (await world.store.budget(team, DAY))[DAY].held == CEILING


async def test_an_idempotency_key_may_be_anything(world: World) -> None:
    for number, name in enumerate(ODD):
        job = await world.accepted(idempotency=orders.key(name, f"body-{number}"))
        assert await world.tried(idempotency=orders.key(name, f"body-{number}")) == Known(job.id)


async def test_nothing_that_a_caller_wrote_is_part_of_a_keys_name(replicas: World) -> None:
    """Names show up in slow logs and in operators' tools. Only Redis has any: SQLite's are those of its tables."""
    prompt = "a canary in a coal mine"
    job = await replicas.bought(webhook=True, documents={"request": prompt.encode(), "plan": prompt.encode()})
    assert await replicas.store.documents(job.id, "request") == {"request": prompt.encode()}
    raw = replicas.raw
    assert isinstance(raw, RawRedis)
    names = [key for key, *_ in raw.everything()]
    assert len(names) > 5
    assert not [name for name in names if b"canary" in name]


async def test_all_names_of_a_partition_share_one_slot(replicas: World) -> None:
    for team in ODD:
        await replicas.bought(team, idempotency=orders.key(), webhook=True)
    raw = replicas.raw
    assert isinstance(raw, RawRedis)
    tags = {name.partition(b"{")[2][:3] for name, *_ in raw.everything() if b"{" in name}
    assert {f"{partition_of(team):02}}}".encode() for team in ODD} <= tags
    assert tags <= {f"{partition:02}}}".encode() for partition in range(PARTITIONS)}
