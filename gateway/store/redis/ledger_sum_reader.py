"""Sums of ledger totals in Redis: scripts add them up in each partition, so that few numbers are sent and decoded."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.store.ledger_sums import LineSum, SumCollector, TotalsQuery
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.redis_client import RedisClient

# A script reads this many days or hours, so that other commands need not wait for a long one.
MAX_SCRIPT_PERIODS = 48


async def sum_totals(
    client: RedisClient, partitions: Iterable[PartitionKeys], query: TotalsQuery
) -> tuple[LineSum, ...]:
    """Sums the totals of the query. Raises ValueError if its periods are invalid or too many."""
    periods = query.list_periods()
    batches = [
        codec.pack(periods[start : start + MAX_SCRIPT_PERIODS]) for start in range(0, len(periods), MAX_SCRIPT_PERIODS)
    ]
    calls = [
        client.run_script(scripts.SUM_TOTALS, [keys.owners], keys.prefix, batch, query.period_length)
        for keys in partitions
        for batch in batches
    ]
    collector = SumCollector(query)
    for reply in await asyncio.gather(*calls):
        for period, fields in zip(reply[::2], reply[1::2], strict=True):
            _add_fields(collector, query, period.decode(), fields)
    return collector.list_sums()


def _add_fields(collector: SumCollector, query: TotalsQuery, period: str, fields: list[Any]) -> None:
    for number, text, value in _split_fields(fields):
        account, key_id = codec.decode_total_account(text)
        if query.team in (None, account.team):
            collector.make_group(period, account, key_id)[number] += value


def _split_fields(fields: list[Any]) -> Iterator[tuple[int, bytes, int]]:
    """Yields 0 for an amount and 1 for a number of images, whose it is, and the number."""
    for field, value in zip(fields[::2], fields[1::2], strict=True):
        name, _, text = field.partition(b":")
        yield int(name == b"images"), text, int(value)
