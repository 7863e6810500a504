"""Reads and deletes decision records in Redis: one hash for each partition and day, whose fields are job ids.

A field holds one line of JSON for the record, and one for the outcome once the job is settled.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from gateway.store.decision_record_pages import DecisionRecordPage, StoredDecisionRecord, clamp_page_size, read_team
from gateway.store.partitions import get_job_day
from gateway.store.redis.keys import KeySpace, PartitionKeys
from gateway.store.redis.redis_client import RedisClient

# The partition, and the position of HSCAN in its hash.
_CURSOR = re.compile(r"(\d{1,2}):(\d{1,20})", re.ASCII)


def decode_value(job_id: str, value: bytes) -> StoredDecisionRecord:
    record, _, outcome = value.partition(b"\n")
    return StoredDecisionRecord(job_id=job_id, record=record, outcome=outcome or None)


async def load_decision_record(client: RedisClient, keys: PartitionKeys, job_id: str) -> StoredDecisionRecord | None:
    value = await client.execute("HGET", keys.decision_records(get_job_day(job_id)), job_id)
    return None if value is None else decode_value(job_id, value)


async def delete_decision_records(client: RedisClient, key_space: KeySpace, job_ids: Iterable[str]) -> None:
    ids_by_key: dict[str, list[str]] = defaultdict(list)
    for job_id in job_ids:
        if keys := key_space.get_job_keys(job_id):
            ids_by_key[keys.decision_records(get_job_day(job_id))].append(job_id)
    await asyncio.gather(*(client.execute("HDEL", key, *ids) for key, ids in ids_by_key.items()))


class DecisionRecordLister:
    """Lists the records of a day, one partition after the other."""

    def __init__(self, client: RedisClient, key_space: KeySpace, partitions: Sequence[int]) -> None:
        self._client, self._key_space, self._partitions = client, key_space, partitions

    async def list_page(self, day: str, team: str | None, limit: int, cursor: str | None) -> DecisionRecordPage:
        index, position = self._decode_cursor(cursor)
        page_size = clamp_page_size(limit)
        records: list[StoredDecisionRecord] = []
        while index < len(self._partitions) and len(records) < page_size:
            key = self._key_space[self._partitions[index]].decision_records(day)
            position, found = await self._scan(key, position, page_size - len(records))
            records += (record for record in found if team is None or read_team(record.record) == team)
            index += position == 0
        is_last = index == len(self._partitions)
        return DecisionRecordPage(tuple(records), None if is_last else f"{self._partitions[index]}:{position}")

    def _decode_cursor(self, cursor: str | None) -> tuple[int, int]:
        """Returns the index of the partition and the position in it. Raises ValueError if the cursor is invalid."""
        if cursor is None:
            return 0, 0
        match = _CURSOR.fullmatch(cursor)
        if not match or int(match[1]) not in self._partitions:
            raise ValueError("Invalid cursor. Use the one from the previous page.")
        return self._partitions.index(int(match[1])), int(match[2])

    async def _scan(self, key: str, position: int, count: int) -> tuple[int, list[StoredDecisionRecord]]:
        reply = await self._client.execute("HSCAN", key, position, "COUNT", count)
        next_position, fields = reply
        pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
        return int(next_position), [decode_value(job_id.decode(), value) for job_id, value in pairs]
