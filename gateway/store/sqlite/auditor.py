"""Audits the database on a connection and a thread of its own, in slices, so that neither the reader nor the event loop
waits for it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import msgspec
from msgspec import Struct

from gateway.store.audit import (
    AuditReport,
    PartitionSnapshot,
    find_discrepancies,
    list_audit_days,
    summarize_job,
)
from gateway.store.audit_pacer import AuditPacer
from gateway.store.job_decoder import JobDecoder
from gateway.store.ledger_totals import LedgerTotal
from gateway.store.sqlite.database import open_reader
from gateway.store.sqlite.database_threads import translate_error
from gateway.store.sqlite.ledger_rows import (
    ENTRY_DECODER,
    add_totals,
    decode_total,
    insert_entries,
    select_balances,
    update_budgets,
)
from gateway.timeouts_and_intervals import StoreTiming

_SELECT_LISTED_JOBS = """SELECT jobs.id, jobs.encoded_job, jobs.settled_at IS NULL, due.job_id IS NOT NULL
FROM jobs LEFT JOIN due ON due.job_id = jobs.id WHERE jobs.settled_at IS NULL
UNION ALL
SELECT due.job_id, jobs.encoded_job, 0, 1 FROM due LEFT JOIN jobs ON jobs.id = due.job_id
WHERE jobs.id IS NULL OR jobs.settled_at IS NOT NULL"""
_SELECT_ENTRIES = "SELECT entry FROM ledger WHERE day IN (SELECT value FROM json_each(?)) ORDER BY number"
_SELECT_TOTALS = "SELECT day, account, key_id, amount, images FROM totals WHERE day BETWEEN ? AND ?"
_SELECT_HOURS = "SELECT hour, account, key_id, amount, images FROM hour_totals WHERE hour BETWEEN ? AND ?"

# A job that changed after it was audited is listed as its last commit says.
_INSERT_DUE = "INSERT OR IGNORE INTO due (job_id, due_at) SELECT id, ? FROM jobs WHERE id = ? AND version = ?"
_REOPEN_JOB = "UPDATE jobs SET settled_at = NULL WHERE id = ? AND version = ?"
_SETTLE_JOB = "UPDATE jobs SET settled_at = coalesce(settled_at, ?) WHERE id = ? AND version = ?"
_DELETE_SETTLED_DUE = """DELETE FROM due WHERE job_id = ?1
AND EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND version = ?2)"""
_DELETE_MISSING_DUE = "DELETE FROM due WHERE job_id = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = ?1)"


class AuditResult(Struct, frozen=True):
    """A report, and the versions of the reported jobs when they were audited."""

    report: AuditReport
    versions: dict[str, int]


class SqliteAuditor:
    """Reads a consistent snapshot and finds its discrepancies. After `stop`, a running audit ends soon."""

    def __init__(self, path: Path, decoder: JobDecoder, clock: Callable[[], float], timing: StoreTiming) -> None:
        self._path, self._decoder, self._clock = path, decoder, clock
        self._pacer = AuditPacer(timing)

    async def run(self) -> AuditResult:
        return await asyncio.to_thread(self._run_in_thread)

    def stop(self) -> None:
        self._pacer.stop()

    def _run_in_thread(self) -> AuditResult:
        try:
            connection = open_reader(self._path)
            try:
                connection.execute("BEGIN")
                return self.audit(connection)
            finally:
                connection.close()
        except Exception as error:
            raise translate_error(error) from error

    def audit(self, db: Connection) -> AuditResult:
        """Audits in an open transaction, which makes all reads consistent."""
        now = self._clock()
        snapshot = self._take_snapshot(db, now)
        report = find_discrepancies(snapshot, now, self._pacer.iterate)
        inconsistent = (*report.not_due, *report.not_open, *report.settled_but_listed)
        versions = {job_id: snapshot.jobs[job_id].version for job_id in inconsistent}
        self._pacer.clear(snapshot.jobs, snapshot.open_jobs, snapshot.due_jobs)
        return AuditResult(report, versions)

    def _take_snapshot(self, db: Connection, now: float) -> PartitionSnapshot:
        """Reads the snapshot. Raises StoreError if a job cannot be read: without the job, its hold would look like a
        discrepancy."""
        jobs, open_ids, due_ids = {}, set(), set()
        for job_id, encoded_job, is_open, is_due in self._read_rows(db, _SELECT_LISTED_JOBS):
            if encoded_job is not None:
                jobs[job_id] = summarize_job(self._decoder.decode(job_id, encoded_job), now)
            open_ids |= {job_id} if is_open else set()
            due_ids |= {job_id} if is_due else set()
        days = list_audit_days(now, self._pacer.iterate(jobs.values()))
        months = sorted({day[:7] for day in days})
        return PartitionSnapshot(
            jobs=jobs,
            open_jobs=open_ids,
            due_jobs=due_ids,
            days=days,
            ledger_entries=(
                ENTRY_DECODER.decode(entry) for (entry,) in self._read_rows(db, _SELECT_ENTRIES, _to_json_array(days))
            ),
            totals=(
                *(
                    total
                    for month in months
                    for total in self._read_totals(db, _SELECT_TOTALS, f"{month}-01", f"{month}-31")
                ),
                *(total for day in days for total in self._read_totals(db, _SELECT_HOURS, f"{day}T00", f"{day}T23")),
            ),
            balances=select_balances(db, (*days, *months)),
        )

    def _read_totals(self, db: Connection, sql: str, first_period: str, last_period: str) -> Iterator[LedgerTotal]:
        return (decode_total(row) for row in self._read_rows(db, sql, first_period, last_period))

    def _read_rows(self, db: Connection, sql: str, *parameters: str) -> Iterator[Any]:
        return self._pacer.iterate(db.execute(sql, parameters))


def _to_json_array(names: Iterable[str]) -> str:
    return msgspec.json.encode(list(names)).decode()


def repair(db: Connection, result: AuditResult, now: float) -> None:
    """Writes the repairs of one audit. They must be written only once, before the next audit begins."""
    report = result.report

    def get_versions(job_ids: Iterable[str]) -> list[tuple[str, int]]:
        return [(job_id, result.versions[job_id]) for job_id in job_ids]

    db.executemany(_INSERT_DUE, [(now, *row) for row in get_versions(report.not_due)])
    db.executemany(_REOPEN_JOB, get_versions(report.not_open))
    db.executemany(_SETTLE_JOB, [(now, *row) for row in get_versions(report.settled_but_listed)])
    db.executemany(_DELETE_SETTLED_DUE, get_versions(report.settled_but_listed))
    db.executemany(_DELETE_MISSING_DUE, [(job_id,) for job_id in report.missing_jobs])
    insert_entries(db, report.missing_entries)
    add_totals(db, report.total_corrections)
    update_budgets(db, ((drift.window, drift.owner, drift.held, drift.spent) for drift in report.budget_drifts))
