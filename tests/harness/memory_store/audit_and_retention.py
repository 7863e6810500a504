"""Audits and repairs a partition of a store in memory, and deletes data whose retention has ended."""

from datetime import UTC, datetime

from gateway.jobs.budgets import split_owner
from gateway.jobs.job_cleanup import get_next_cleanup
from gateway.store.audit import AuditReport, PartitionSnapshot, find_discrepancies, list_audit_days, summarize_job
from gateway.store.base import MIN_BUDGET_SECONDS, SIGNAL_TTL_SECONDS, Retention
from gateway.store.partitions import job_partition
from tests.harness.memory_store.memory_state import MemoryState


def audit_partition(state: MemoryState, partition: int, repair: bool, now: float) -> AuditReport:
    report = find_discrepancies(_take_snapshot(state, partition, now), now)
    if repair:
        _repair_partition(state, report, now)
    return report


def _take_snapshot(state: MemoryState, partition: int, now: float) -> PartitionSnapshot:
    due_ids = {job_id for job_id in state.due_times if _is_in_partition(state, job_id, partition)}
    open_ids = {stored.job.id for stored in state.open_jobs if _is_in_partition(state, stored.job.id, partition)}
    jobs = {
        job_id: summarize_job(stored.job, now) for job_id, stored in state.jobs.items() if job_id in due_ids | open_ids
    }
    days = list_audit_days(now, jobs.values())
    months = {day[:7] for day in days}
    return PartitionSnapshot(
        jobs=jobs,
        open_jobs=open_ids,
        due_jobs=due_ids,
        days=days,
        ledger_entries=tuple(
            entry
            for entry in state.ledger.entries
            if entry.day in days and state.get_partition(entry.team) == partition
        ),
        totals=tuple(
            total
            for total in state.ledger.totals.values()
            if total.day[:7] in months and state.get_partition(total.account.team) == partition
        ),
        balances={
            (owner, window): balance
            for (owner, window), balance in state.ledger.balances.items()
            if window in {*days, *months} and state.get_partition(split_owner(owner)[0]) == partition
        },
    )


def _is_in_partition(state: MemoryState, job_id: str, partition: int) -> bool:
    return (job_partition(job_id) or 0) % state.partition_count == partition


def _repair_partition(state: MemoryState, report: AuditReport, now: float) -> None:
    for job_id in report.not_due:
        state.due_times[job_id] = now
    for job_id in report.not_open:
        state.jobs[job_id].settled_at = None
    for job_id in report.settled_but_listed:
        state.jobs[job_id].settled_at = state.jobs[job_id].settled_at or now
    for job_id in (*report.settled_but_listed, *report.missing_jobs):
        state.due_times.pop(job_id, None)
    state.ledger.entries += report.missing_entries
    state.ledger.add_totals(report.total_corrections)
    for drift in report.budget_drifts:
        state.ledger.change_balance(drift.owner, drift.window, drift.held, drift.spent)


def list_jobs_to_clean_up(state: MemoryState, limit: int, now: float) -> tuple[str, ...]:
    settled = [
        job_id
        for job_id, stored in state.jobs.items()
        if (cleanup := get_next_cleanup(stored.job)) is not None and cleanup.at <= now
    ]
    announced = [job_id for job_id, expires_at in state.announced.items() if expires_at <= now]
    return tuple((settled + announced)[:limit])


def delete_expired(state: MemoryState, retention: Retention, now: float) -> None:
    """Deletes expired money, decision records, keys and signals. Keeps days that are still audited and their months."""
    first_audited_day = list_audit_days(now, [summarize_job(stored.job, now) for stored in state.open_jobs])[0]
    first_total_day = min(f"{first_audited_day[:7]}-01", _format_day(now - retention.totals))
    state.ledger.delete_before(
        min(first_audited_day, _format_day(now - retention.ledger)),
        first_total_day,
        min(first_total_day, _format_day(now - MIN_BUDGET_SECONDS)),
    )
    state.decision_records.delete_expired(retention.decisions, now)
    state.request_keys.delete_expired(now)
    state.api_keys.delete_events_before(now - retention.admin_events)
    state.signals = {name: signal for name, signal in state.signals.items() if signal[1] > now - SIGNAL_TTL_SECONDS}


def _format_day(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
