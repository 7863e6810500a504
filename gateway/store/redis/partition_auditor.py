"""Audits one partition in Redis: reads a consistent snapshot and applies the repairs with one script."""

import asyncio
import secrets
from collections.abc import Collection
from typing import Any

import msgspec

from gateway.jobs.job import Job
from gateway.store.audit import AuditReport, PartitionSnapshot, find_discrepancies, list_audit_days, list_month_days
from gateway.store.base import Retention
from gateway.store.job_decoder import JobDecoder
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.redis_client import RedisClient


class PartitionAuditor:
    """Audits one partition once."""

    def __init__(self, client: RedisClient, keys: PartitionKeys, retention: Retention, decoder: JobDecoder) -> None:
        self._client = client
        self._keys = keys
        self._retention = retention
        self._decoder = decoder
        self._token = secrets.token_hex(8)

    async def audit(
        self, settings: bytes, now: float, repair: bool = True, extra_jobs: Collection[str] = ()
    ) -> AuditReport:
        """Audits the listed jobs and `extra_jobs`."""
        snapshot = await self._take_snapshot(now, extra_jobs)
        report = find_discrepancies(snapshot, now)
        if repair and (report.discrepancy_count or extra_jobs):
            await self._repair(report, snapshot, settings, extra_jobs)
        return report

    async def _take_snapshot(self, now: float, extra_jobs: Collection[str]) -> PartitionSnapshot:
        """Reads the snapshot of the days to audit. A job that is created after these days were determined belongs to
        today."""
        keys, client = self._keys, self._client
        listed_jobs = await self._load_listed_jobs(extra_jobs)
        days = tuple(
            day for day in list_audit_days(now, listed_jobs) if now < codec.compute_expiry(day, self._retention.ledger)
        )
        months = sorted({day[:7] for day in days})
        all_days = [day for month in months for day in list_month_days(month)]
        teams = sorted({job.team for job in listed_jobs})
        reply = await client.run_script(
            scripts.READ_SNAPSHOT,
            [keys.audit_lock, keys.due, keys.open, keys.teams],
            *(self._token, keys.prefix),
            *(
                msgspec.msgpack.encode(argument)
                for argument in (days, all_days, (*days, *months), sorted(extra_jobs), teams)
            ),
        )
        open_ids, due_ids, encoded_jobs, ledgers, totals, budgets = reply
        return PartitionSnapshot(
            jobs={
                job_id.decode(): self._decoder.decode(job_id.decode(), encoded_job)
                for job_id, encoded_job in zip(encoded_jobs[::2], encoded_jobs[1::2], strict=True)
                if encoded_job
            },
            open_jobs=frozenset(job_id.decode() for job_id in open_ids),
            due_jobs=frozenset(job_id.decode() for job_id in due_ids),
            days=days,
            ledger_entries=tuple(entry for lines in ledgers for entry in codec.decode_entries(lines)),
            totals=tuple(
                total
                for day, fields in zip(all_days, totals, strict=True)
                for total in codec.decode_totals(day, fields)
            ),
            balances={
                (team.decode(), window.decode()): BudgetBalance(held=int(held), spent=int(spent))
                for team, window, held, spent in zip(*(budgets[offset::4] for offset in range(4)), strict=True)
            },
        )

    async def _load_listed_jobs(self, extra_jobs: Collection[str]) -> list[Job]:
        keys, client = self._keys, self._client
        listed_ids = set(await client.execute("SMEMBERS", keys.open))
        listed_ids |= set(await client.execute("ZRANGE", keys.due, 0, -1))
        job_ids = sorted({job_id.decode() for job_id in listed_ids} | set(extra_jobs))
        encoded_jobs = await asyncio.gather(
            *(client.execute("HGET", keys.job(job_id), "encoded_job") for job_id in job_ids)
        )
        return [
            self._decoder.decode(job_id, encoded_job)
            for job_id, encoded_job in zip(job_ids, encoded_jobs, strict=True)
            if encoded_job
        ]

    async def _repair(
        self, report: AuditReport, snapshot: PartitionSnapshot, settings: bytes, extra_jobs: Collection[str]
    ) -> None:
        keys = _KeyIndex([self._keys.audit_lock, self._keys.due, self._keys.open, self._keys.retention])
        settled = [
            job_id
            for job_id in {*report.settled_but_listed, *extra_jobs}
            if job_id in snapshot.jobs and snapshot.jobs[job_id].is_settled
        ]
        corrections = {
            "unlisted": [
                self._encode_unlisted(snapshot.jobs[job_id], keys) for job_id in {*report.not_due, *report.not_open}
            ],
            "delisted": [*report.settled_but_listed, *report.missing_jobs],
            "retained": settled,
            "missing_entries": [
                {
                    **codec.encode_entry(entry),
                    "key": keys.get_index(self._keys.ledger(entry.day)),
                    "expires_at": codec.compute_expiry(entry.day, self._retention.ledger),
                }
                for entry in report.missing_entries
            ],
            "total_corrections": [
                {
                    **codec.encode_total(total),
                    "key": keys.get_index(self._keys.totals(total.day)),
                    "expires_at": codec.compute_expiry(total.day, self._retention.totals),
                }
                for total in report.total_corrections
            ],
            "budget_drifts": [
                {
                    "key": keys.get_index(self._keys.budget(drift.team, drift.window)),
                    "held": drift.held,
                    "spent": drift.spent,
                    "expires_at": codec.compute_expiry(f"{drift.window[:7]}-01", self._retention.totals),
                }
                for drift in report.budget_drifts
            ],
        }
        packed = msgspec.msgpack.encode(corrections)
        await self._client.run_script(scripts.REPAIR, keys.names, settings, self._token, packed)

    def _encode_unlisted(self, job: Job, keys: "_KeyIndex") -> dict[str, Any]:
        return {"job_id": job.id, "version": str(job.version), "key": keys.get_index(self._keys.job(job.id))}


class _KeyIndex:
    """The keys of a script, each with its index."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def get_index(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name) + 1
