"""Behind the back of a Redis store."""

from typing import Any

import msgspec
import redis

from gateway.jobs.commit import LedgerEntry
from gateway.store.books import Balance
from gateway.store.partitions import PARTITIONS, partition_of, partition_of_job
from gateway.store.redis.keys import CLOSED, RUNS, Keys

# What is kept for a time counted from now ends sooner than this; what is kept until a date of the tests' clock, later.
LONGEST_MS = 500 * 86_400_000
# One look at everything; unlike a store's own scripts it has no shebang, so that a Cluster lets it see all slots.
_EVERYTHING = """
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
_DUE = """
local found = {}
for number = 1, tonumber(ARGV[1]) do
  for _, part in ipairs(redis.call('ZRANGE', ARGV[number + 1], 0, -1, 'WITHSCORES')) do found[#found + 1] = part end
end
return found
"""
_BALANCES = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'igw:*:budget:*')) do
  found[#found + 1] = {key, redis.call('HMGET', key, 'held', 'spent')}
end
return found
"""
_LEDGER = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'igw:*:ledger:*')) do
  for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do found[#found + 1] = entry end
end
return found
"""


class RawRedis:
    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self.client = client
        self._due_keys = [Keys(partition).due for partition in range(PARTITIONS)]
        self._locks = {Keys(partition).audit.encode() for partition in range(PARTITIONS)}

    def close(self) -> None:
        self.client.close()

    def empty(self) -> None:
        """But for the mark that this run of the server was seen before: nobody need audit all partitions for it."""
        self.client.flushall()
        self.client.sadd(RUNS, self.client.info("server")["run_id"])

    def forget_closing(self, owner: str) -> None:
        """A Cluster has no such mark."""
        self.client.delete(f"{CLOSED}{owner}")

    def dump(self) -> dict[bytes, Any]:
        """Without the lock that an audit leaves behind, and the mark of a closed store: they say nothing of any job."""
        found = {key: (_comparable(kind, value), ends) for key, kind, value, ends in self.everything()}
        return {
            key: value for key, value in found.items() if key not in self._locks and not key.startswith(CLOSED.encode())
        }

    def everything(self) -> list[Any]:
        found = self.client.execute_command("EVAL", _EVERYTHING, 0)
        assert isinstance(found, list)
        return found

    def due(self) -> dict[str, float]:
        found = self.client.execute_command("EVAL", _DUE, 0, len(self._due_keys), *self._due_keys)
        return {job.decode(): float(score) for job, score in zip(found[::2], found[1::2], strict=True)}

    def balances(self) -> dict[tuple[str, str], Balance]:
        found = self.client.execute_command("EVAL", _BALANCES, 0)
        return {_team_and_window(key): Balance(held=int(held), spent=int(spent)) for key, (held, spent) in found}

    def ledger(self) -> tuple[LedgerEntry, ...]:
        entries = self.client.execute_command("EVAL", _LEDGER, 0)
        return tuple(msgspec.json.decode(entry, type=LedgerEntry) for entry in entries)

    def forget_what_is_over(self, seconds: float, now: float) -> None:
        for key in self.client.keys("*"):
            left = self.client.pttl(key)
            if 0 <= left < LONGEST_MS:
                self.client.pexpire(key, left - int(seconds * 1000))
            elif left >= LONGEST_MS and self.client.pexpiretime(key) <= now * 1000:
                self.client.delete(key)

    def lose_due(self, job: str) -> None:
        assert self.client.zrem(_keys(job).due, job) == 1

    def make_due(self, job: str) -> None:
        assert self.client.zadd(_keys(job).due, {job: 0.0}) == 1

    def lose_open(self, job: str) -> None:
        assert self.client.srem(_keys(job).open, job) == 1

    def make_open(self, job: str) -> None:
        assert self.client.sadd(_keys(job).open, job) == 1

    def lose_job(self, job: str) -> None:
        assert self.client.delete(_keys(job).job(job)) == 1

    def change_balance(self, team: str, window: str, held: int = 0, spent: int = 0) -> None:
        key = Keys(partition_of(team)).budget(team, window)
        self.client.hincrby(key, "held", held)
        self.client.hincrby(key, "spent", spent)

    def lose_entries(self, job: str) -> int:
        entries = [(key, entry) for key in self.client.keys("*:ledger:*") for entry in self.client.lrange(key, 0, -1)]
        return sum(self.client.lrem(key, 1, entry) for key, entry in entries if job.encode() in entry)

    def change_totals(self, day: str, amount: int) -> None:
        fields = [
            (key, field)
            for key in self.client.keys(f"*:totals:{day}")
            for field in self.client.hkeys(key)
            if field.startswith(b"amount:")
        ]
        assert fields
        for key, field in fields:
            self.client.hincrby(key, field, amount)


def _keys(job: str) -> Keys:
    partition = partition_of_job(job)
    assert partition is not None
    return Keys(partition)


def _team_and_window(key: bytes) -> tuple[str, str]:
    team, _, window = key.decode().partition(":budget:")[2].rpartition(":")
    return team, window


def _comparable(kind: bytes, value: Any) -> Any:
    if kind == b"hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    return set(value) if kind == b"set" else value
