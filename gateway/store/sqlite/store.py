"""The store for one process: a file with an exclusive lock, a writer thread and a reader thread.

A commit changes job, money and due time in one transaction, and is on disk when it returns.
"""

import asyncio
import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Self, TypeVar

from msgspec import Struct

from gateway.jobs.budgets import make_owner
from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone
from gateway.jobs.job import Job
from gateway.store.audit import AuditReport
from gateway.store.base import (
    Applied,
    ClaimedDelivery,
    ClaimedJob,
    CommitOutcome,
    IdempotencyMatch,
    Retention,
    StoreError,
    StoreFull,
    StoreUnavailable,
    needs_lookup,
)
from gateway.store.decision_record_pages import DecisionRecordPage, StoredDecisionRecord
from gateway.store.job_pages import ALL_JOBS, JobFilter, JobPage, JobPosition
from gateway.store.job_watch import JobWatch, JobWatchers
from gateway.store.ledger_sums import LineSum, TotalsQuery
from gateway.store.ledger_totals import BudgetBalance, Correction, LedgerTotal
from gateway.store.sqlite import (
    decision_record_rows,
    ledger_sum_rows,
    read_queries,
    replica_signals,
    retention,
    webhook_outbox,
)
from gateway.store.sqlite.api_key_rows import SqliteApiKeys
from gateway.store.sqlite.auditor import SqliteAuditor
from gateway.store.sqlite.auditor import repair as repair_audited
from gateway.store.sqlite.commit_writer import CommitWriter
from gateway.store.sqlite.database import DatabaseLock, acquire_lock, is_exclusive, open_reader, open_writer
from gateway.store.sqlite.database_threads import ReaderThread, WriterThread, translate_error
from gateway.store.sqlite.leases import SqliteLeaseManager
from gateway.store.sqlite.ledger_rows import delete_entries, insert_correction
from gateway.store.sqlite.repeated_request_rows import (
    BodyKey,
    attach_caller,
    mark_replica_closed,
    remove_caller,
    remove_dead_callers,
)
from gateway.store.sqlite.statistics_rows import SqliteStatistics, count_one_day
from gateway.store.sqlite.team_record_rows import SqliteTeamRecords
from gateway.task_supervisor import TaskSupervisor
from gateway.timeouts_and_intervals import StoreTiming

ResultT = TypeVar("ResultT")


class _OpenHandles(Struct, frozen=True):
    """The resources of an open store. Without a reader, the writer also reads."""

    lock: DatabaseLock
    writer: WriterThread
    reader: ReaderThread | None


class SqliteStore:
    """Stores jobs in an SQLite file, as one partition."""

    partitions: Sequence[int] = (0,)
    is_shared = False

    def __init__(  # noqa: PLR0913 - all but the path have a default
        self,
        path: str | Path,
        *,
        replica_id: str | None = None,
        lease: float = 15.0,
        retention: Retention = Retention(),  # noqa: B008  Retention is immutable
        clock: Callable[[], float] = time.time,
        supervisor: TaskSupervisor | None = None,
        timing: StoreTiming = StoreTiming(),
    ) -> None:
        self._timing = timing
        self.replica_id = replica_id or f"sqlite-{secrets.token_hex(4)}"
        # Resolved, so that all paths to the file share one lock.
        self._path, self.retention, self._clock = Path(path).resolve(), retention, clock
        self._job_queries = read_queries.JobQueries()
        self._commit_writer = CommitWriter(replica_id=self.replica_id, lease=lease, clock=clock)
        self._lease_manager = SqliteLeaseManager(self.replica_id, lease, self._job_queries)
        self._audit_task: asyncio.Task[AuditReport] | None = None
        self._audited_at: float | None = None
        self.api_keys = SqliteApiKeys(self._run_read, self._run_write)
        self.team_records = SqliteTeamRecords(self._run_read, self._run_write, clock)
        self.statistics = SqliteStatistics(self._run_read, self._run_write, clock, self.replica_id)
        self._watchers = JobWatchers()
        self._supervisor = supervisor or TaskSupervisor()
        self._handles: _OpenHandles | None = None
        self._has_expired_leases = False
        self._close_task: asyncio.Task[None] | None = None

    async def open(self) -> Self:
        """Opens the database directly in the event loop: no other task is running yet that this could delay."""
        lock = acquire_lock(self._path)
        try:
            writer = WriterThread(partial(open_writer, self._path), "writer", self._supervisor, self._timing)
            try:
                exclusive = await writer.run(is_exclusive)
                await self._remove_dead_callers(writer)
                connect = partial(open_reader, self._path)
                reader = None if exclusive else ReaderThread(connect, "reader", self._supervisor, self._timing)
            except StoreError:
                await writer.stop()
                raise
        except StoreError:
            lock.release()
            raise
        self._auditor = SqliteAuditor(self._path, self._job_queries, self._clock, self._timing)
        self._audit_lock = asyncio.Lock()
        self._handles = _OpenHandles(lock, writer, reader)
        self._close_task, self._has_expired_leases = None, False
        return self

    async def _remove_dead_callers(self, writer: WriterThread) -> None:
        """Removes the callers of killed processes. If the disk is full, they stay until their jobs are claimed."""
        with contextlib.suppress(StoreFull):
            await writer.run(lambda db: remove_dead_callers(db, self.replica_id, self._clock()))

    async def close(self) -> None:
        """Closes the store completely, even if the task that awaits it is cancelled."""
        if self._handles is not None and self._close_task is None:
            self._close_task = asyncio.create_task(self._close_handles(self._handles))
        if self._close_task is not None:
            await asyncio.shield(self._close_task)

    async def _close_handles(self, handles: _OpenHandles) -> None:
        """Closes the reader first: the last connection to close moves the log into the database, and only the writer
        can do that."""
        self._auditor.stop()
        async with self._audit_lock:
            pass
        if handles.reader is not None:
            await handles.reader.stop()
        # Without this mark the process counts as killed, and callers that got a response are removed from their jobs.
        with contextlib.suppress(StoreError):
            await handles.writer.run(lambda db: mark_replica_closed(db, self.replica_id, self._clock()))
        await handles.writer.stop()
        handles.lock.release()
        self._handles = None

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._job_queries.warnings

    async def _run_write(
        self, function: Callable[[Connection], ResultT], on_success: Callable[[ResultT], None] | None = None
    ) -> ResultT:
        return await self._require_handles().writer.run(function, on_success)

    async def _run_read(self, function: Callable[[Connection], ResultT]) -> ResultT:
        handles = self._require_handles()
        return await (handles.reader or handles.writer).run(function)

    def _require_handles(self) -> _OpenHandles:
        if self._handles is None:
            raise StoreUnavailable("The store is not open.")
        return self._handles

    # --- jobs

    async def commit(self, commit: Commit) -> CommitOutcome:
        return await self._run_write(
            lambda db: self._commit_writer(db, commit), partial(self._notify_watchers, commit.job)
        )

    def _notify_watchers(self, job: Job, outcome: CommitOutcome) -> None:
        if isinstance(outcome, Applied):
            self._watchers.notify(job.id, job.version)

    async def announce_job(self, job_id: str, timeout_seconds: float) -> None:
        await self._run_write(lambda db: retention.announce_job(db, job_id, self._clock() + timeout_seconds))

    async def find_by_idempotency(self, team: str, record: IdempotencyRecord) -> IdempotencyMatch | None:
        if not needs_lookup(record):
            return None
        if record.is_body_key:
            return await self._run_write(lambda db: attach_caller(db, self._make_body_key(team, record), record))
        return await self._run_read(lambda db: read_queries.find_by_idempotency(db, team, record, self._clock()))

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        if record.is_body_key:
            await self._run_write(lambda db: remove_caller(db, self._make_body_key(team, record), record.caller_id))

    def _make_body_key(self, team: str, record: IdempotencyRecord) -> BodyKey:
        return BodyKey(team, record.key, self._clock())

    async def load_job(self, job_id: str) -> Job | None:
        return await self._run_read(lambda db: self._job_queries.load_job(db, job_id))

    async def load_documents(self, job_id: str, *names: str) -> Mapping[str, bytes]:
        return await self._run_read(lambda db: read_queries.load_documents(db, job_id, names))

    async def load_decision_record(self, job_id: str) -> StoredDecisionRecord | None:
        return await self._run_read(lambda db: decision_record_rows.load_decision_record(db, job_id))

    async def list_decision_records(
        self, day: str, team: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> DecisionRecordPage:
        return await self._run_read(lambda db: decision_record_rows.list_decision_records(db, day, team, limit, cursor))

    async def delete_decision_records(self, *job_ids: str) -> None:
        await self._run_write(lambda db: decision_record_rows.delete_decision_records(db, job_ids))

    async def claim_jobs(self, limit: int = 100) -> tuple[ClaimedJob, ...]:
        return await self._run_write(lambda db: self._lease_manager.claim_jobs(db, limit, self._clock()))

    async def renew_leases(self, leases: Mapping[str, int]) -> frozenset[str]:
        leases = dict(leases)
        return await self._run_write(lambda db: self._lease_manager.renew_leases(db, leases, self._clock()))

    async def expire_leases_of_killed_replicas(self) -> int:
        """Has an effect once after `open`: as long as this process has the lock, no other one can be running."""
        if self._has_expired_leases:
            return 0
        count = await self._run_write(lambda db: self._lease_manager.expire_other_leases(db, self._clock()))
        self._has_expired_leases = True
        return count

    async def release_job(self, job_id: str, fence: int, delay: float) -> bool:
        return await self._run_write(
            lambda db: self._lease_manager.release_job(db, job_id, fence, self._clock() + delay)
        )

    async def list_jobs(
        self, team: str, limit: int = 20, after: JobPosition | None = None, job_filter: JobFilter = ALL_JOBS
    ) -> JobPage:
        return await self._run_read(lambda db: self._job_queries.list_jobs(db, team, limit, after, job_filter))

    async def list_milestones(self, job_id: str, after_number: int = 0) -> tuple[Milestone, ...]:
        return await self._run_read(lambda db: read_queries.list_milestones(db, job_id, after_number))

    # --- money

    async def load_balances(self, team: str, *windows: str, key_id: str = "") -> Mapping[str, BudgetBalance]:
        owner = make_owner(team, key_id)
        return await self._run_read(lambda db: read_queries.load_balances(db, owner, windows))

    async def list_ledger_entries(
        self, day: str, team: str | None = None, *, is_irregular: bool = False
    ) -> tuple[LedgerEntry, ...]:
        return await self._run_read(lambda db: read_queries.list_ledger_entries(db, day, team, is_irregular))

    async def delete_ledger_entries(self, day: str, team: str) -> None:
        last: int | None = 0
        while last is not None:
            last = await self._run_write(partial(delete_entries, day=day, team=team, after=last))

    async def list_day_totals(self, first_day: str, last_day: str, team: str | None = None) -> tuple[LedgerTotal, ...]:
        return await self._run_read(lambda db: read_queries.list_day_totals(db, first_day, last_day, team))

    async def sum_totals(self, query: TotalsQuery) -> tuple[LineSum, ...]:
        return await self._run_read(lambda db: ledger_sum_rows.sum_totals(db, query))

    async def post_correction(self, correction: Correction) -> bool:
        return await self._run_write(lambda db: insert_correction(db, correction))

    # --- webhooks and signals

    async def claim_deliveries(self, limit: int = 20, lease: float = 60.0) -> tuple[ClaimedDelivery, ...]:
        def claim_batch(db: Connection) -> tuple[ClaimedDelivery, ...]:
            now = self._clock()
            return webhook_outbox.claim_deliveries(db, limit, now, now + lease)

        return await self._run_write(claim_batch)

    async def ack_delivery(self, delivery_id: str, job_id: str) -> None:
        await self._run_write(lambda db: webhook_outbox.ack_delivery(db, delivery_id, job_id))

    async def retry_delivery(self, delivery_id: str, job_id: str, delay: float) -> None:
        await self._run_write(lambda db: webhook_outbox.retry_delivery(db, delivery_id, job_id, self._clock() + delay))

    async def publish_signal(self, name: str, value: bytes) -> None:
        await self._run_write(lambda db: replica_signals.publish_signal(db, name, value, self._clock()))

    async def read_signals(self) -> Mapping[str, bytes]:
        return await self._run_read(lambda db: replica_signals.read_signals(db, self._clock()))

    def watch(self, job_id: str) -> JobWatch:
        return JobWatch(self._watchers, job_id)

    # --- maintenance

    async def audit(self, partition: int, repair: bool = True) -> AuditReport:
        """Audits even if the caller is cancelled: a repair that is queued must be written before the next audit."""
        self._audit_task = asyncio.create_task(self._audit(repair))
        return await asyncio.shield(self._audit_task)

    async def _audit(self, repair: bool) -> AuditReport:
        async with self._audit_lock:
            handles, auditor = self._require_handles(), self._auditor
            # Without a reader, only the writer can read.
            result = await (handles.writer.run(auditor.audit) if handles.reader is None else auditor.run())
            if repair and result.report.discrepancy_count:
                await self._run_write(lambda db: repair_audited(db, result, self._clock()))
            return result.report

    async def claim_audit(self, interval_seconds: float) -> bool:
        """Compares times in memory: no other process uses the database."""
        now = self._clock()
        if self._audited_at is not None and now < self._audited_at + interval_seconds:
            return False
        self._audited_at = now
        return True

    async def list_jobs_to_clean_up(self, limit: int = 100) -> tuple[str, ...]:
        now = self._clock()
        return await self._run_read(lambda db: retention.list_jobs_to_clean_up(db, now, limit))

    async def delete_job(self, job_id: str) -> None:
        await self._run_write(lambda db: retention.delete_job(db, job_id))

    async def delete_expired(self) -> None:
        """Day totals are added to the lifetime totals before they are deleted."""
        for step in (count_one_day, *retention.deletion_steps(self.retention, self._clock())):
            while await self._run_write(step):
                continue
        if self._require_handles().reader is not None:
            # Another connection can be opened.
            try:
                await asyncio.to_thread(retention.truncate_log, self._path, self._timing.max_log_wait_seconds)
            except sqlite3.Error as error:
                raise translate_error(error) from error
