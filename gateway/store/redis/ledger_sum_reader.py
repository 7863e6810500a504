"""Sums of ledger totals in Redis: scripts add them up in each partition, so that few numbers are sent and decoded."""

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import msgspec

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_sums import PERIOD_DIMENSIONS, Dimension, LineSum, SumCollector, TotalsQuery
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.redis_client import RedisClient

# A script reads this many days or hours, so that other commands need not wait for a long one.
MAX_SCRIPT_PERIODS = 48
_decode_group = msgspec.msgpack.Decoder(list[str]).decode


async def sum_totals(
    client: RedisClient, partitions: Iterable[PartitionKeys], query: TotalsQuery
) -> tuple[LineSum, ...]:
    """Sums the totals of the query. Raises ValueError if its periods are invalid or too many."""
    periods = query.list_periods()
    batches = [
        codec.pack(periods[start : start + MAX_SCRIPT_PERIODS]) for start in range(0, len(periods), MAX_SCRIPT_PERIODS)
    ]
    dimensions = [dimension for dimension in query.dimensions if dimension not in PERIOD_DIMENSIONS]
    arguments = (query.period_length, codec.pack(dimensions), query.team or "")
    calls = [
        client.run_script(scripts.SUM_TOTALS, [keys.owners], keys.prefix, batch, *arguments)
        for keys in partitions
        for batch in batches
    ]
    collector = SumCollector(query)
    for reply in await asyncio.gather(*calls):
        for period, groups in zip(reply[::2], reply[1::2], strict=True):
            _add_groups(collector, dimensions, period.decode(), groups)
    return collector.list_sums()


def _add_groups(collector: SumCollector, dimensions: list[Dimension], period: str, groups: list[Any]) -> None:
    key_index = dimensions.index(Dimension.KEY) if Dimension.KEY in dimensions else None
    for group, amount, images in zip(groups[::3], groups[1::3], groups[2::3], strict=True):
        line, *values = _decode_group(group)
        if key_index is not None and values[key_index]:
            values[key_index] = unquote(values[key_index])
        collector.add(period, values, LedgerLine(line), int(amount), int(images))
