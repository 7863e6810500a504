"""Teams may have any name, and no text of a client becomes part of a key."""

from itertools import count

import pytest

from gateway.store.base import Applied, DuplicateRequest
from gateway.store.partitions import PARTITIONS, team_partition
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH, PRICE
from tests.store.raw_redis import RawRedis
from tests.store.store_harness import LEASE_SECONDS, StoreHarness

UNUSUAL_NAMES = [
    *("with spaces", " ", "{braces}", "}{", "{}", "{07}", "a:b:c", ":", "*", "?[a]", "'; DROP TABLE jobs; --", '"'),
    *("Ünïcødé", "日本", "\N{ZERO WIDTH JOINER}", "🎨", "new\nline", "tab\t", "nul\x00nul", "%s", "\\", "x" * 1000),
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("team", UNUSUAL_NAMES, ids=lambda team: ascii(team)[:20])
async def test_team_may_have_any_name(harness: StoreHarness, team: str) -> None:
    job = await harness.create_settled_job(
        team, has_webhook=True, idempotency=job_factory.make_client_key(), documents={"request": b"{}"}
    )
    open_job = await harness.create_job(team)
    assert await harness.store.load_job(job.id) == job
    assert set((await harness.store.list_jobs(team)).jobs) == {job, open_job}
    balance = (await harness.store.load_balances(team, DAY, MONTH))[MONTH]
    assert (balance.held, balance.spent) == (CEILING, PRICE)
    assert await harness.try_create_job(team, idempotency=job_factory.make_client_key()) == DuplicateRequest(job.id)
    assert [entry.team for entry in await harness.store.list_ledger_entries(DAY, team)] == [team]
    assert [total.account.team for total in await harness.store.list_day_totals(DAY, DAY, team)] == [team]
    (claimed,) = await harness.store.claim_deliveries()
    await harness.store.ack_delivery(claimed.delivery.id, job.id)
    for partition in harness.store.partitions:
        assert (await harness.store.audit(partition)).discrepancy_count == 0
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {open_job.id}


async def test_teams_with_similar_names_are_separate(harness: StoreHarness) -> None:
    for team in UNUSUAL_NAMES:
        await harness.create_job(team)
    for team in UNUSUAL_NAMES:
        assert len((await harness.store.list_jobs(team)).jobs) == 1
        assert (await harness.store.load_balances(team, DAY))[DAY].held == CEILING


async def test_idempotency_key_may_be_any_text(harness: StoreHarness) -> None:
    for number, name in enumerate(UNUSUAL_NAMES):
        job = await harness.create_job(idempotency=job_factory.make_client_key(name, f"body-{number}"))
        assert await harness.try_create_job(
            idempotency=job_factory.make_client_key(name, f"body-{number}")
        ) == DuplicateRequest(job.id)


async def test_redis_keys_contain_no_client_text(redis_harness: StoreHarness) -> None:
    """Keys appear in slow logs and in operators' tools. Other stores have no such keys."""
    prompt = "a canary in a coal mine"
    job = await redis_harness.create_settled_job(
        has_webhook=True, documents={"request": prompt.encode(), "plan": prompt.encode()}
    )
    assert await redis_harness.store.load_documents(job.id, "request") == {"request": prompt.encode()}
    raw_redis = redis_harness.raw_store
    assert isinstance(raw_redis, RawRedis)
    names = [key for key, *_ in raw_redis.read_everything()]
    assert len(names) > 5
    assert not [name for name in names if b"canary" in name]


async def test_redis_keys_of_a_partition_share_one_slot(redis_harness: StoreHarness) -> None:
    for team in UNUSUAL_NAMES:
        await redis_harness.create_settled_job(team, idempotency=job_factory.make_client_key(), has_webhook=True)
    raw_redis = redis_harness.raw_store
    assert isinstance(raw_redis, RawRedis)
    tags = {name.partition(b"{")[2][:3] for name, *_ in raw_redis.read_everything() if b"{" in name}
    assert {f"{team_partition(team):02}}}".encode() for team in UNUSUAL_NAMES} <= tags
    assert tags <= {f"{partition:02}}}".encode() for partition in range(PARTITIONS)}


async def test_team_and_key_with_separators_do_not_collide(harness: StoreHarness) -> None:
    """Team `a` with key `b:c`, and team `a:b` with key `c`."""
    first, second = next((f"a{n}", f"a{n}:b") for n in count() if team_partition(f"a{n}") == team_partition(f"a{n}:b"))
    await harness.create_job(first, idempotency=job_factory.make_client_key("b:c"))
    assert (
        await harness.try_create_job(second, idempotency=job_factory.make_client_key("c", "another body")) == Applied()
    )
