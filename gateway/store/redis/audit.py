"""The auditor's hands: one moment of a partition in our words, and its corrections."""

import asyncio
import secrets
from collections.abc import Collection
from typing import Any

import msgspec

from gateway.jobs.job import Job
from gateway.store.auditing import Findings, Snapshot, days_of_month, days_to_audit, examine
from gateway.store.base import Retention, StoreUnavailable
from gateway.store.books import Balance
from gateway.store.redis import scripts, wire
from gateway.store.redis.keys import Keys
from gateway.store.redis.link import Link
from gateway.store.saved_jobs import SavedJobs

TRIES = 5


class Auditor:
    """Of one partition, once."""

    def __init__(self, link: Link, keys: Keys, retention: Retention, saved: SavedJobs) -> None:
        self._link = link
        self._keys = keys
        self._retention = retention
        self._saved = saved
        self._token = secrets.token_hex(8)

    async def audit(self, settings: bytes, now: float, repair: bool = True, also: Collection[str] = ()) -> Findings:
        """`also` names jobs to look at, whether or not anything lists them."""
        for _ in range(TRIES):
            if seen := await self._snapshot(now, also):
                break
        else:
            raise StoreUnavailable("jobs come in faster than they can be audited: try again later")
        found = examine(seen, now)
        if repair and found.violations:
            await self._mend(found, seen, settings)
        return found

    async def _snapshot(self, now: float, also: Collection[str]) -> Snapshot | None:
        """None if jobs were accepted or settled while their names were read."""
        keys, link = self._keys, self._link
        listed = set(await link.command("SMEMBERS", keys.open))
        listed |= set(await link.command("ZRANGE", keys.due, 0, -1))
        ids = sorted({name.decode() for name in listed} | set(also))
        found = await asyncio.gather(*(link.command("HGET", keys.job(name), "blob") for name in ids))
        known = [self._saved.read(name, blob) for name, blob in zip(ids, found, strict=True) if blob]
        days = tuple(day for day in days_to_audit(now, known) if now < wire.ends(day, self._retention.ledger))
        months = sorted({day[:7] for day in days})
        all_days = [day for month in months for day in days_of_month(month)]
        listed_teams = {name.decode() for name in await link.command("SMEMBERS", keys.teams)}
        teams = sorted(listed_teams | {job.team for job in known})
        windows = [(team, window) for team in teams for window in (*days, *months)]
        answer = await link.script(
            scripts.SNAPSHOT,
            [
                *(keys.audit, keys.due, keys.open, keys.teams),
                *(keys.job(name) for name in ids),
                *(keys.ledger(day) for day in days),
                *(keys.totals(day) for day in all_days),
                *(keys.budget(*window) for window in windows),
            ],
            *(self._token, msgspec.msgpack.encode(ids)),
            *(len(ids), len(days), len(all_days), len(windows), len(listed_teams)),
        )
        if answer == b"again":
            return None
        opened, due, blobs, ledgers, totals, balances = answer
        jobs = {name: self._saved.read(name, blob) for name, blob in zip(ids, blobs, strict=True) if blob}
        return Snapshot(
            jobs=jobs,
            open=frozenset(name.decode() for name in opened),
            due=frozenset(name.decode() for name in due),
            days=days,
            ledger=tuple(entry for lines in ledgers for entry in wire.entries_of(lines)),
            totals=tuple(
                total for day, flat in zip(all_days, totals, strict=True) for total in wire.totals_of(day, flat)
            ),
            balances={
                window: Balance(held=int(held or 0), spent=int(spent or 0))
                for window, (held, spent) in zip(windows, balances, strict=True)
            },
        )

    async def _mend(self, found: Findings, seen: Snapshot, settings: bytes) -> None:
        keys = _Numbered([self._keys.audit, self._keys.due, self._keys.open])
        corrections = {
            "unlisted": [self._unlisted(seen.jobs[name], keys) for name in {*found.not_due, *found.not_open}],
            "gone": [*found.settled, *found.lost],
            "entries": [
                {
                    **wire.entry_message(entry),
                    "key": keys.number(self._keys.ledger(entry.day)),
                    "ends": wire.ends(entry.day, self._retention.ledger),
                }
                for entry in found.entries
            ],
            "totals": [
                {**wire.total_message(total), "key": keys.number(self._keys.totals(total.day))}
                for total in found.totals
            ],
            "balances": [
                {
                    "key": keys.number(self._keys.budget(drift.team, drift.window)),
                    "held": drift.held,
                    "spent": drift.spent,
                }
                for drift in found.balances
            ],
        }
        packed = msgspec.msgpack.encode(corrections)
        await self._link.script(scripts.MEND, keys.names, settings, self._token, packed)

    def _unlisted(self, job: Job, keys: "_Numbered") -> dict[str, Any]:
        return {"id": job.id, "version": str(job.version), "key": keys.number(self._keys.job(job.id))}


class _Numbered:
    """Keys in the order in which a script gets them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def number(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name) + 1
