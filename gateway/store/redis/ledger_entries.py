"""Lists and deletes ledger entries in Redis: a list for each partition and day, and one of its irregular entries."""

import asyncio
from collections.abc import Iterable

from gateway.jobs.commit import LedgerEntry
from gateway.store.redis import codec
from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.redis_client import RedisClient

DELETION_PAGE_ENTRIES = 500


async def list_entries(
    client: RedisClient, partitions: Iterable[PartitionKeys], day: str, team: str | None, *, is_irregular: bool
) -> tuple[LedgerEntry, ...]:
    lists = [keys.irregular_entries(day) if is_irregular else keys.ledger(day) for keys in partitions]
    calls = [client.execute("LRANGE", key, 0, -1) for key in lists]
    entries = (entry for lines in await asyncio.gather(*calls) for entry in codec.decode_entries(lines))
    return tuple(entry for entry in entries if team in (None, entry.team))


async def delete_entries(client: RedisClient, keys: PartitionKeys, day: str, team: str) -> None:
    """Deletes the entries of a team. Goes from the end to the beginning, so that what another replica deletes meanwhile
    moves none behind the present position."""
    for key in (keys.ledger(day), keys.irregular_entries(day)):
        end = await client.execute("LLEN", key)
        while end > 0:
            start = max(0, end - DELETION_PAGE_ENTRIES)
            lines = await client.execute("LRANGE", key, start, end - 1)
            entries = zip(lines, codec.decode_entries(lines), strict=True)
            own_lines = [line for line, entry in entries if entry.team == team]
            await asyncio.gather(*(client.execute("LREM", key, -1, line) for line in own_lines))
            end = start
