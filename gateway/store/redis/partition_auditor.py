"""Audits one partition in Redis, page by page, so that neither Redis nor the event loop waits for it.

While an audit runs, commits note which jobs they change. At the end the audit reads these jobs again, together with all
derived numbers, in one script. So its snapshot is consistent, however long reading the pages took.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.store.audit import (
    AuditedJob,
    AuditReport,
    PartitionSnapshot,
    find_discrepancies,
    list_audit_days,
    list_month_days,
    summarize_job,
)
from gateway.store.audit_pacer import AuditPacer
from gateway.store.base import Retention, StoreUnavailable
from gateway.store.job_decoder import JobDecoder
from gateway.store.ledger_totals import list_day_hours
from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.killed_replica_detector import list_connected_replicas
from gateway.store.redis.redis_client import RedisClient
from gateway.timeouts_and_intervals import StoreTiming

# Decoding a page takes a few milliseconds.
PAGE_JOBS, PAGE_ENTRIES = 100, 500
# An audit that reads no page for this long ends, so that a crashed one does not block the next.
AUDIT_TTL_SECONDS = 20


class PartitionAuditor:
    """Audits one partition once, for this replica."""

    def __init__(  # noqa: PLR0913 - what an audit needs of the store
        self,
        client: RedisClient,
        replica_id: str,
        keys: PartitionKeys,
        retention: Retention,
        decoder: JobDecoder,
        timing: StoreTiming,
    ) -> None:
        self._client = client
        self._keys = keys
        self._retention = retention
        self._decoder = decoder
        self._token = f"token:{secrets.token_hex(8)}:{replica_id}"
        self._timing = timing
        self._pacer = AuditPacer(timing)
        self._jobs: dict[str, AuditedJob] = {}
        self._open_ids: set[str] = set()
        self._due_ids: set[str] = set()

    async def audit(
        self, settings: bytes, now: float, repair: bool = True, extra_jobs: Collection[str] = ()
    ) -> AuditReport:
        """Audits the listed jobs and `extra_jobs`."""
        async with self._run_exclusively():
            snapshot = await self._take_snapshot(now, frozenset(extra_jobs))
            report = await asyncio.to_thread(find_discrepancies, snapshot, now, self._pacer.iterate)
            if repair and (report.discrepancy_count or extra_jobs):
                await self._repair(report, snapshot, settings, extra_jobs)
        await asyncio.to_thread(self._pacer.clear, self._jobs, self._open_ids, self._due_ids)
        return report

    @asynccontextmanager
    async def _run_exclusively(self) -> AsyncIterator[None]:
        """Waits until no other audit of this partition runs: two audits would repair the same discrepancy twice."""
        give_up_at = monotonic() + self._timing.audit_wait_seconds
        while (running := await self._begin()) != self._token:
            if monotonic() >= give_up_at:
                raise StoreUnavailable("Another audit of the partition is running. Retry later.")
            if await self._is_abandoned(running):
                await self._end(running)
            else:
                await asyncio.sleep(self._timing.audit_poll_seconds)
        try:
            yield
        finally:
            # Without an answer the audit ends by itself after its time to live.
            with contextlib.suppress(StoreUnavailable):
                await self._end(self._token)

    async def _begin(self) -> str:
        """Begins this audit, unless another one is running. Returns the token of the one that runs."""
        token: bytes = await self._client.run_script(
            scripts.BEGIN_AUDIT, [self._keys.audit], self._token, AUDIT_TTL_SECONDS
        )
        return token.decode()

    async def _end(self, token: str) -> None:
        await self._client.run_script(scripts.END_AUDIT, [self._keys.audit], token)

    async def _is_abandoned(self, token: str) -> bool:
        """Whether the process that audits has ended: it has no connection. If it has only lost its connections, it
        finds that its audit has ended, and neither reads nor repairs on. Older versions do not name their replica."""
        _, _, replica_id = token.removeprefix("token:").partition(":")
        with contextlib.suppress(StoreUnavailable):
            return bool(replica_id) and replica_id not in await list_connected_replicas(self._client)
        return False

    # --- the snapshot

    async def _take_snapshot(self, now: float, extra_jobs: frozenset[str]) -> PartitionSnapshot:
        """Takes the snapshot of the days to audit. A job that is created after these days were determined belongs to
        today."""
        keys = self._keys
        self._open_ids = await self._read_listed_jobs("SSCAN", keys.open, now)
        self._due_ids = await self._read_listed_jobs("ZSCAN", keys.due, now)
        await self._read_jobs(extra_jobs - self._jobs.keys(), now)
        days = tuple(
            day
            for day in list_audit_days(now, self._jobs.values())
            if now < codec.compute_expiry(day, self._retention.ledger)
        )
        entries, read_counts = [], []
        for day in days:
            day_entries = [entry async for entry in self._read_entries(day)]
            entries += day_entries
            read_counts.append(len(day_entries))
        months = sorted({day[:7] for day in days})
        periods = [day for month in months for day in list_month_days(month)]
        periods += [hour for day in days for hour in list_day_hours(day)]
        reply = await self._client.run_script(
            scripts.FINISH_SNAPSHOT,
            [keys.audit, keys.due, keys.open, keys.owners],
            *(self._token, AUDIT_TTL_SECONDS, keys.prefix),
            *_pack_arguments(
                days,
                read_counts,
                periods,
                (*days, *months),
                {owner for job in self._jobs.values() for owner in job.budget_owners},
            ),
        )
        changed_jobs, ledgers, totals, budgets = self._require_reply(reply)
        self._merge_changed_jobs(changed_jobs, extra_jobs, now)
        return PartitionSnapshot(
            jobs=self._jobs,
            open_jobs=self._open_ids,
            due_jobs=self._due_ids,
            days=days,
            ledger_entries=(*entries, *(entry for lines in ledgers for entry in codec.decode_entries(lines))),
            totals=tuple(
                total
                for period, fields in zip(periods, totals, strict=True)
                for total in codec.decode_totals(period, fields)
            ),
            balances=codec.decode_balances(budgets),
        )

    async def _read_listed_jobs(self, command: str, list_key: str, now: float) -> set[str]:
        """Returns the ids of a list. A job that is added or removed meanwhile is read again at the end."""
        listed_ids: set[str] = set()
        cursor = b"0"
        while True:
            arguments = (self._token, AUDIT_TTL_SECONDS, self._keys.prefix, command, cursor, PAGE_JOBS)
            reply = await self._client.run_script(
                scripts.READ_AUDIT_PAGE, [self._keys.audit, self._keys.open, list_key], *arguments
            )
            cursor, page = self._require_reply(reply)
            for job_id, encoded_job in zip(page[::2], page[1::2], strict=True):
                listed_ids.add(job_id.decode())
                self._add_job(job_id.decode(), encoded_job, now)
            if cursor == b"0":
                return listed_ids

    async def _read_jobs(self, job_ids: Iterable[str], now: float) -> None:
        for job_id in job_ids:
            self._add_job(job_id, await self._client.execute("HGET", self._keys.job(job_id), "encoded_job"), now)

    def _add_job(self, job_id: str, encoded_job: bytes | None, now: float) -> None:
        """Adds a job as it is now. Raises StoreError if it cannot be read: without it, its hold would look like a
        discrepancy."""
        if encoded_job and job_id not in self._jobs:
            self._jobs[job_id] = summarize_job(self._decoder.decode(job_id, encoded_job), now)

    async def _read_entries(self, day: str) -> AsyncIterator[LedgerEntry]:
        offset = 0
        while lines := await self._client.execute("LRANGE", self._keys.ledger(day), offset, offset + PAGE_ENTRIES - 1):
            offset += len(lines)
            for entry in codec.decode_entries(lines):
                yield entry

    def _merge_changed_jobs(
        self, changed_jobs: Iterable[tuple[bytes, bytes | None, int, int]], extra_jobs: frozenset[str], now: float
    ) -> None:
        for encoded_id, encoded_job, is_open, is_due in changed_jobs:
            job_id = encoded_id.decode()
            self._jobs.pop(job_id, None)
            for ids, is_listed in ((self._open_ids, is_open), (self._due_ids, is_due)):
                ids.discard(job_id)
                ids |= {job_id} if is_listed else set()
            if is_open or is_due or job_id in extra_jobs:
                self._add_job(job_id, encoded_job, now)

    def _require_reply(self, reply: Any) -> Any:
        if not reply:
            raise StoreUnavailable("The audit took too long, and another one may have begun. Retry later.")
        return reply

    # --- the repair

    async def _repair(
        self, report: AuditReport, snapshot: PartitionSnapshot, settings: bytes, extra_jobs: Collection[str]
    ) -> None:
        keys = _KeyIndex(
            [
                self._keys.audit,
                self._keys.due,
                self._keys.open,
                self._keys.retention,
                self._keys.uncounted_days,
                self._keys.open_states,
            ]
        )
        settled = [
            job_id
            for job_id in {*report.settled_but_listed, *extra_jobs}
            if job_id in snapshot.jobs and snapshot.jobs[job_id].is_settled
        ]
        corrections = {
            "unlisted": [self._encode_job(job_id, keys) for job_id in {*report.not_due, *report.not_open}],
            "delisted": [
                self._encode_job(job_id, keys) for job_id in (*report.settled_but_listed, *report.missing_jobs)
            ],
            "retained": [{"job_id": job_id, "cleanup_at": snapshot.jobs[job_id].cleanup_at} for job_id in settled],
            "missing_entries": [
                {
                    **codec.encode_entry(entry),
                    "keys": [keys.get_index(name) for name in self._list_entry_keys(entry)],
                    "expires_at": codec.compute_expiry(entry.day, self._retention.ledger),
                }
                for entry in report.missing_entries
            ],
            "total_corrections": [
                {
                    **codec.encode_total(total),
                    "key": keys.get_index(self._keys.totals(total.period)),
                    "expires_at": codec.compute_expiry(
                        total.day, self._retention.ledger if total.is_hourly else self._retention.totals
                    ),
                }
                for total in report.total_corrections
            ],
            "budget_drifts": [
                {
                    "key": keys.get_index(self._keys.budget(drift.owner, drift.window)),
                    "held": drift.held,
                    "spent": drift.spent,
                    **codec.encode_budget_expiry(drift.window, self._retention),
                }
                for drift in report.budget_drifts
            ],
        }
        packed = msgspec.msgpack.encode(corrections)
        self._require_reply(await self._client.run_script(scripts.REPAIR, keys.names, settings, self._token, packed))

    def _list_entry_keys(self, entry: LedgerEntry) -> tuple[str, ...]:
        day = entry.day
        return (self._keys.ledger(day), *((self._keys.irregular_entries(day),) if entry.is_irregular else ()))

    def _encode_job(self, job_id: str, keys: "_KeyIndex") -> dict[str, Any]:
        """Encodes a job with the version that was audited: empty for a job that did not exist."""
        job = self._jobs.get(job_id)
        return {
            "job_id": job_id,
            "version": str(job.version) if job else "",
            "key": keys.get_index(self._keys.job(job_id)),
        }


def _pack_arguments(*arguments: Iterable[object]) -> Iterable[bytes]:
    return (msgspec.msgpack.encode(list(argument)) for argument in arguments)


class _KeyIndex:
    """The keys of a script, each with its index."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def get_index(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name) + 1
