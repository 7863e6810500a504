"""The auditor's hands: one moment of a partition in our words, and its corrections."""

import asyncio
import secrets
from collections.abc import Collection
from typing import Any

import msgspec

from gateway.jobs.job import Job
from gateway.store.auditing import Findings, Snapshot, days_of_month, days_to_audit, examine
from gateway.store.base import Retention
from gateway.store.books import Balance
from gateway.store.redis import scripts, wire
from gateway.store.redis.keys import Keys
from gateway.store.redis.link import Link
from gateway.store.saved_jobs import SavedJobs


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
        seen = await self._snapshot(now, also)
        found = examine(seen, now)
        if repair and (found.violations or also):
            await self._mend(found, seen, settings, also)
        return found

    async def _snapshot(self, now: float, also: Collection[str]) -> Snapshot:
        """Which days are wanted is told from the jobs that are there now; those that come in meanwhile are today's."""
        keys, link = self._keys, self._link
        known = await self._jobs_listed(also)
        days = tuple(day for day in days_to_audit(now, known) if now < wire.ends(day, self._retention.ledger))
        months = sorted({day[:7] for day in days})
        all_days = [day for month in months for day in days_of_month(month)]
        teams = sorted({job.team for job in known})
        answer = await link.script(
            scripts.SNAPSHOT,
            [keys.audit, keys.due, keys.open, keys.teams],
            *(self._token, keys.prefix),
            *(msgspec.msgpack.encode(one) for one in (days, all_days, (*days, *months), sorted(also), teams)),
        )
        opened, due, blobs, ledgers, totals, budgets = answer
        return Snapshot(
            jobs={
                name.decode(): self._saved.read(name.decode(), blob)
                for name, blob in zip(blobs[::2], blobs[1::2], strict=True)
                if blob
            },
            open=frozenset(name.decode() for name in opened),
            due=frozenset(name.decode() for name in due),
            days=days,
            ledger=tuple(entry for lines in ledgers for entry in wire.entries_of(lines)),
            totals=tuple(
                total for day, flat in zip(all_days, totals, strict=True) for total in wire.totals_of(day, flat)
            ),
            balances={
                (team.decode(), window.decode()): Balance(held=int(held), spent=int(spent))
                for team, window, held, spent in zip(*(budgets[place::4] for place in range(4)), strict=True)
            },
        )

    async def _jobs_listed(self, also: Collection[str]) -> list[Job]:
        keys, link = self._keys, self._link
        listed = set(await link.command("SMEMBERS", keys.open))
        listed |= set(await link.command("ZRANGE", keys.due, 0, -1))
        names = sorted({name.decode() for name in listed} | set(also))
        blobs = await asyncio.gather(*(link.command("HGET", keys.job(name), "blob") for name in names))
        return [self._saved.read(name, blob) for name, blob in zip(names, blobs, strict=True) if blob]

    async def _mend(self, found: Findings, seen: Snapshot, settings: bytes, also: Collection[str]) -> None:
        keys = _Numbered([self._keys.audit, self._keys.due, self._keys.open, self._keys.kept])
        settled = [name for name in {*found.settled, *also} if name in seen.jobs and seen.jobs[name].is_settled]
        corrections = {
            "unlisted": [self._unlisted(seen.jobs[name], keys) for name in {*found.not_due, *found.not_open}],
            "gone": [*found.settled, *found.lost],
            "kept": settled,
            "entries": [
                {
                    **wire.entry_message(entry),
                    "key": keys.number(self._keys.ledger(entry.day)),
                    "ends": wire.ends(entry.day, self._retention.ledger),
                }
                for entry in found.entries
            ],
            "totals": [
                {
                    **wire.total_message(total),
                    "key": keys.number(self._keys.totals(total.day)),
                    "ends": wire.ends(total.day, self._retention.totals),
                }
                for total in found.totals
            ],
            "balances": [
                {
                    "key": keys.number(self._keys.budget(drift.team, drift.window)),
                    "held": drift.held,
                    "spent": drift.spent,
                    "ends": wire.ends(f"{drift.window[:7]}-01", self._retention.totals),
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
