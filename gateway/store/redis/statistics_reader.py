"""Lifetime totals, balances, backlog and heartbeats of the store in Redis."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, TypeVar

from msgspec import Struct

from gateway.jobs.budgets import KEY_MARK
from gateway.store.base import DAY_SECONDS
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import HEARTBEATS, KeySpace, PartitionKeys
from gateway.store.redis.redis_client import RedisClient
from gateway.store.redis.scripts import Script
from gateway.store.statistics import HEARTBEAT_TTL_SECONDS, Backlog, LifetimeTotal, OpenState

ReplyT = TypeVar("ReplyT")
_MONTH_DAYS = 31
# Tomorrow, today and yesterday.
RECENT_DAYS = 3


class RedisStatistics(Struct, frozen=True):
    """Implements StoreStatistics. `totals_seconds`: the retention of day totals.

    If a partition cannot be reached, nothing is returned: a sum without it would be wrong.
    """

    client: RedisClient
    key_space: KeySpace
    partitions: Iterable[int]
    get_settings: Callable[[], bytes]
    get_time: Callable[[], float]
    totals_seconds: float

    async def update_lifetime_totals(self) -> tuple[LifetimeTotal, ...]:
        calls = [self._update_partition_totals(self.key_space[partition]) for partition in self.partitions]
        replies = await _gather_all(calls)
        return tuple(total for fields in replies for total in codec.decode_lifetime_totals(fields))

    async def _update_partition_totals(self, keys: PartitionKeys) -> list[bytes]:
        reply = await self._run_update(keys, [])
        fields: list[bytes] = await self._run_update(keys, self._list_days(self._day_count)) if reply is None else reply
        return fields

    async def _run_update(self, keys: PartitionKeys, all_days: list[str]) -> Any:
        arguments = (keys.prefix, codec.pack(self._list_days(RECENT_DAYS)), codec.pack(all_days))
        return await self.client.run_script(
            scripts.UPDATE_LIFETIME_TOTALS, [keys.lifetime_totals, keys.uncounted_days], *arguments
        )

    @property
    def _day_count(self) -> int:
        """The number of days that may have totals. They expire with the month, a retention after its end."""
        return int(self.totals_seconds // DAY_SECONDS) + 2 * _MONTH_DAYS

    def _list_days(self, count: int) -> list[str]:
        """Lists the last days, from tomorrow: it may have begun by the clock of another replica."""
        tomorrow = datetime.fromtimestamp(self.get_time(), UTC).date() + timedelta(days=1)
        return [(tomorrow - timedelta(days=offset)).isoformat() for offset in range(count)]

    async def list_balances(self, *windows: str) -> Mapping[tuple[str, str], BudgetBalance]:
        keys = ([self.key_space[partition].owners] for partition in self.partitions)
        replies = await self._run_on_partitions(scripts.LIST_BALANCES, keys, codec.pack(windows), KEY_MARK)
        return {key: balance for fields in replies for key, balance in codec.decode_balances(fields).items()}

    async def read_backlog(self) -> Backlog:
        bounds = [bound for state in OpenState for bound in codec.get_state_bounds(state)]
        all_keys = (self.key_space[partition] for partition in self.partitions)
        keys = ([keys.open_states, keys.due, keys.open] for keys in all_keys)
        replies = await self._run_on_partitions(scripts.READ_BACKLOG, keys, self.get_settings(), *bounds)
        jobs = Counter[OpenState]()
        for counts, _, _ in replies:
            jobs.update(dict(zip(OpenState, counts, strict=True)))
        return Backlog(
            jobs={state: jobs[state] for state in OpenState},
            oldest_seconds=max(float(oldest) for _, oldest, _ in replies),
            due_lag_seconds=max(float(due_lag) for _, _, due_lag in replies),
        )

    async def exchange_heartbeats(self) -> Mapping[str, float]:
        reply = await self.client.run_script(
            scripts.EXCHANGE_HEARTBEATS, [HEARTBEATS], self.get_settings(), HEARTBEAT_TTL_SECONDS
        )
        return {replica_id: age for age, replica_id in codec.decode_scores(reply)}

    async def _run_on_partitions(self, script: Script, keys: Iterable[Sequence[str]], *arguments: Any) -> list[Any]:
        return list(chain.from_iterable(await _gather_all(self.client.run_on_partitions(script, keys, *arguments))))


async def _gather_all(calls: Iterable[Awaitable[ReplyT]]) -> list[ReplyT]:
    """Waits for all replies, then raises the first error."""
    replies = await asyncio.gather(*calls, return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return [reply for reply in replies if not isinstance(reply, BaseException)]
