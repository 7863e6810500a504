"""Direct access to the data of a Redis store."""

from typing import Any

import msgspec
import redis

from gateway.jobs.budgets import split_owner
from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.partitions import PARTITIONS, job_partition, team_partition
from gateway.store.redis.keys import CLOSED_MARK_PREFIX, HEARTBEATS, SERVER_RUNS, PartitionKeys

# Keys with a relative expiry have less than this left, and keys that expire on a date of the tests' clock have more.
MAX_RELATIVE_TTL_MS = 500 * 86_400_000
# Reads everything at once. Without a shebang, unlike the store's scripts, so that a Cluster allows access to all slots.
_READ_EVERYTHING = """
local readers = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  found[#found + 1] = {key, kind, readers[kind](key), redis.call('PEXPIRETIME', key)}
end
return found
"""
_READ_DUE_TIMES = """
local found = {}
for number = 1, tonumber(ARGV[1]) do
  for _, part in ipairs(redis.call('ZRANGE', ARGV[number + 1], 0, -1, 'WITHSCORES')) do found[#found + 1] = part end
end
return found
"""
_READ_BALANCES = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'igw:*:budget:*')) do
  found[#found + 1] = {key, redis.call('HMGET', key, 'held', 'spent')}
end
return found
"""
_READ_LEDGER = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'igw:*:ledger:*')) do
  for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do found[#found + 1] = entry end
end
return found
"""


class RawRedis:
    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self.client = client
        self._due_keys = [PartitionKeys(partition).due for partition in range(PARTITIONS)]
        self._locks = {PartitionKeys(partition).audit.encode() for partition in range(PARTITIONS)}

    def close(self) -> None:
        self.client.close()

    def delete_everything(self) -> None:
        """Deletes everything but the known run id of the server, so that the store does not audit all partitions."""
        self.client.flushall()
        self.client.sadd(SERVER_RUNS, self.client.info("server")["run_id"])

    def undo_close(self, replica_id: str, now: float) -> None:
        """Deletes the mark, of which a Cluster has none, and restores the heartbeat."""
        self.client.delete(f"{CLOSED_MARK_PREFIX}{replica_id}")
        self.client.hset(HEARTBEATS, replica_id, now)

    def dump_everything(self) -> dict[bytes, Any]:
        """Leaves out the locks of audits and the marks of closed replicas, which belong to no job."""
        found = {
            key: (_to_comparable(kind, value), expires_at) for key, kind, value, expires_at in self.read_everything()
        }
        return {
            key: value
            for key, value in found.items()
            if key not in self._locks and not key.startswith(CLOSED_MARK_PREFIX.encode())
        }

    def read_everything(self) -> list[Any]:
        found = self.client.execute_command("EVAL", _READ_EVERYTHING, 0)
        assert isinstance(found, list)
        return found

    def read_due_times(self) -> dict[str, float]:
        found = self.client.execute_command("EVAL", _READ_DUE_TIMES, 0, len(self._due_keys), *self._due_keys)
        return {job_id.decode(): float(score) for job_id, score in zip(found[::2], found[1::2], strict=True)}

    def read_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        found = self.client.execute_command("EVAL", _READ_BALANCES, 0)
        return {_parse_budget_key(key): BudgetBalance(held=int(held), spent=int(spent)) for key, (held, spent) in found}

    def read_ledger(self) -> tuple[LedgerEntry, ...]:
        entries = self.client.execute_command("EVAL", _READ_LEDGER, 0)
        return tuple(msgspec.json.decode(entry, type=LedgerEntry) for entry in entries)

    def expire_keys(self, seconds: float, now: float) -> None:
        for key in self.client.keys("*"):
            ttl_ms = self.client.pttl(key)
            if 0 <= ttl_ms < MAX_RELATIVE_TTL_MS:
                self.client.pexpire(key, ttl_ms - int(seconds * 1000))
            elif ttl_ms >= MAX_RELATIVE_TTL_MS and self.client.pexpiretime(key) <= now * 1000:
                self.client.delete(key)

    def delete_due_entry(self, job_id: str) -> None:
        assert self.client.zrem(_make_keys(job_id).due, job_id) == 1

    def insert_due_entry(self, job_id: str) -> None:
        assert self.client.zadd(_make_keys(job_id).due, {job_id: 0.0}) == 1

    def delete_open_entry(self, job_id: str) -> None:
        assert self.client.srem(_make_keys(job_id).open, job_id) == 1

    def insert_open_entry(self, job_id: str) -> None:
        assert self.client.sadd(_make_keys(job_id).open, job_id) == 1

    def delete_job(self, job_id: str) -> None:
        assert self.client.delete(_make_keys(job_id).job(job_id)) == 1

    def change_balance(self, owner: str, window: str, held: int = 0, spent: int = 0) -> None:
        key = PartitionKeys(team_partition(split_owner(owner)[0])).budget(owner, window)
        self.client.hincrby(key, "held", held)
        self.client.hincrby(key, "spent", spent)

    def delete_ledger_entries(self, job_id: str) -> int:
        self._delete_from_lists("*:irregular:*", job_id)
        return self._delete_from_lists("*:ledger:*", job_id)

    def _delete_from_lists(self, pattern: str, job_id: str) -> int:
        entries = [(key, entry) for key in self.client.keys(pattern) for entry in self.client.lrange(key, 0, -1)]
        return sum(self.client.lrem(key, 1, entry) for key, entry in entries if job_id.encode() in entry)

    def change_totals(self, period: str, amount: int) -> None:
        fields = [
            (key, field)
            for key in self.client.keys(f"*:totals:{period}")
            for field in self.client.hkeys(key)
            if field.startswith(b"amount:")
        ]
        assert fields
        for key, field in fields:
            self.client.hincrby(key, field, amount)

    def delete_statistics(self) -> None:
        for pattern in ("*:lifetime_totals", "*:uncounted_days", "*:open_states"):
            for key in self.client.keys(pattern):
                self.client.delete(key)
        for key in self.client.keys("*:totals:*"):
            for field in self.client.hkeys(key):
                if field.startswith(b"counted_"):
                    self.client.hdel(key, field)


def _make_keys(job_id: str) -> PartitionKeys:
    partition = job_partition(job_id)
    assert partition is not None
    return PartitionKeys(partition)


def _parse_budget_key(key: bytes) -> tuple[str, str]:
    owner, _, window = key.decode().partition(":budget:")[2].rpartition(":")
    return owner, window


def _to_comparable(kind: bytes, value: Any) -> Any:
    if kind == b"hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    return set(value) if kind == b"set" else value
