"""One replica's store, with its data in memory. For tests only."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

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
    StoreUnavailable,
    needs_lookup,
)
from gateway.store.decision_record_pages import DecisionRecordPage, StoredDecisionRecord
from gateway.store.job_pages import ALL_JOBS, JobFilter, JobPage, JobPosition
from gateway.store.job_watch import JobWatch, JobWatchers
from gateway.store.ledger_sums import LineSum, TotalsQuery
from gateway.store.ledger_totals import BudgetBalance, Correction, LedgerTotal, list_days
from tests.harness.memory_store import audit_and_retention, job_leases
from tests.harness.memory_store.call_interceptor import CallInterceptor, StoreCall
from tests.harness.memory_store.memory_api_keys import MemoryApiKeys
from tests.harness.memory_store.memory_state import LeaseOwner, MemoryState
from tests.harness.memory_store.memory_statistics import MemoryStatistics
from tests.harness.memory_store.memory_team_records import MemoryTeamRecords

ResultT = TypeVar("ResultT")


class MemoryStore:
    """Implements the Store protocol for one replica. Replicas with the same `state` share their jobs.

    Deterministic: no threads, no time but that of `clock`, no randomness. Each call takes effect in one step of the
    event loop, after the step in which it is called and before the step in which its caller gets the answer. Calls take
    effect in the order in which they are made, unless `interceptor` delays them, and even if the caller is cancelled.

    `kill` is the crash of the process: the data stays in `state`, as it is, for other replicas.
    """

    is_shared = True

    def __init__(  # noqa: PLR0913 - all but the state and the clock have a default
        self,
        state: MemoryState,
        *,
        replica_id: str | None = None,
        lease: float = 15.0,
        retention: Retention = Retention(),  # noqa: B008  Retention is immutable
        clock: Callable[[], float],
        interceptor: CallInterceptor | None = None,
    ) -> None:
        self.state = state
        self.replica_id = replica_id or state.make_replica_id()
        self.partitions: Sequence[int] = range(state.partition_count)
        self.interceptor = interceptor
        self._owner = LeaseOwner(self.replica_id, lease)
        self.retention, self._clock = retention, clock
        self.api_keys = MemoryApiKeys(state.api_keys, self._run)
        self.team_records = MemoryTeamRecords(state.team_records, self._run)
        self.statistics = MemoryStatistics(state, self._run, self.replica_id)
        self._watchers = JobWatchers()
        self._pending_calls: dict[StoreCall, asyncio.Task[None]] = {}
        self._is_open = self._is_killed = False
        self._close_task: asyncio.Task[None] | None = None

    # --- opening, closing and calls

    async def open(self) -> Self:
        await asyncio.sleep(0)
        self.state.open_replica(self.replica_id, self._watchers)
        self._is_open, self._close_task = True, None
        return self

    async def close(self) -> None:
        """Closes the store completely, even if the task that awaits it is cancelled."""
        if self._is_open:
            self._is_open = False
            self._close_task = asyncio.create_task(self._close_replica())
        if self._close_task is not None:
            await asyncio.shield(self._close_task)

    async def _close_replica(self) -> None:
        if self._pending_calls:
            await asyncio.wait(self._pending_calls.values())
        if not self._is_killed:
            self.state.close_replica(self.replica_id, self._clock())

    def kill(self) -> None:
        """Crashes the process of this replica: no call of it takes effect or is answered any more.

        Every caller gets CancelledError, so that its code ends without handling an error.
        """
        self._is_killed = True
        self.state.kill_replica(self.replica_id)
        for call in self._pending_calls:
            call.result.cancel()

    @property
    def warnings(self) -> tuple[str, ...]:
        return ()

    async def _run(self, name: str, arguments: tuple[Any, ...], effect: Callable[[float], ResultT]) -> ResultT:
        """Runs the effect in a task of its own, so that it happens even if the caller is cancelled. The effect gets the
        time at which it happens."""
        if self._is_killed:
            raise asyncio.CancelledError
        if not self._is_open:
            raise StoreUnavailable("The store is not open.")
        result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        call = StoreCall(name, arguments, result)
        self._pending_calls[call] = asyncio.create_task(self._execute_call(call, effect))
        return await result

    async def _execute_call(self, call: StoreCall, effect: Callable[[float], Any]) -> None:
        try:
            result = await self._apply_effect(call, effect)
        except Exception as error:  # noqa: BLE001  the caller gets the error
            call.fail(error)
        else:
            call.answer(result)
        finally:
            call.result.cancel()
            del self._pending_calls[call]

    async def _apply_effect(self, call: StoreCall, effect: Callable[[float], ResultT]) -> ResultT:
        if self.interceptor is not None:
            await self.interceptor.before_call(call)
        if self._is_killed:
            raise asyncio.CancelledError
        result = effect(self._clock())
        if self.interceptor is not None:
            await self.interceptor.after_call(call, result)
        return result

    # --- jobs

    async def commit(self, commit: Commit) -> CommitOutcome:
        def apply_commit(now: float) -> CommitOutcome:
            outcome = self.state.commit(commit, self._owner, now)
            if isinstance(outcome, Applied):
                self.state.notify_watchers(commit.job)
            return outcome

        return await self._run("commit", (commit,), apply_commit)

    async def announce_job(self, job_id: str, timeout_seconds: float) -> None:
        await self._run(
            "announce_job",
            (job_id, timeout_seconds),
            lambda now: self.state.announce_job(job_id, now + timeout_seconds),
        )

    async def find_by_idempotency(self, team: str, record: IdempotencyRecord) -> IdempotencyMatch | None:
        if not needs_lookup(record):
            return None
        return await self._run(
            "find_by_idempotency", (team, record), lambda now: self.state.find_by_idempotency(team, record, now)
        )

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        await self._run("remove_caller", (team, record), lambda _: self.state.remove_caller(team, record))

    async def load_job(self, job_id: str) -> Job | None:
        return await self._run("load_job", (job_id,), lambda _: self.state.load_job(job_id))

    async def load_documents(self, job_id: str, *names: str) -> Mapping[str, bytes]:
        return await self._run("load_documents", (job_id, *names), lambda _: self.state.load_documents(job_id, names))

    async def load_decision_record(self, job_id: str) -> StoredDecisionRecord | None:
        return await self._run("load_decision_record", (job_id,), lambda _: self.state.decision_records.load(job_id))

    async def list_decision_records(
        self, day: str, team: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> DecisionRecordPage:
        return await self._run(
            "list_decision_records",
            (day, team, limit, cursor),
            lambda _: self.state.decision_records.list_page(day, team, limit, cursor),
        )

    async def delete_decision_records(self, *job_ids: str) -> None:
        await self._run("delete_decision_records", job_ids, lambda _: self.state.decision_records.delete(job_ids))

    async def claim_jobs(self, limit: int = 100) -> tuple[ClaimedJob, ...]:
        return await self._run(
            "claim_jobs", (limit,), lambda now: job_leases.claim_jobs(self.state, limit, self._owner, now)
        )

    async def renew_leases(self, leases: Mapping[str, int]) -> frozenset[str]:
        leases = dict(leases)
        return await self._run(
            "renew_leases", (leases,), lambda now: job_leases.renew_leases(self.state, leases, self._owner, now)
        )

    async def expire_leases_of_killed_replicas(self) -> int:
        return await self._run(
            "expire_leases_of_killed_replicas",
            (),
            lambda now: job_leases.expire_leases_of_killed(self.state, self.replica_id, now),
        )

    async def release_job(self, job_id: str, fence: int, delay: float) -> bool:
        return await self._run(
            "release_job",
            (job_id, fence, delay),
            lambda now: job_leases.release_job(self.state, job_id, fence, self._owner, now + delay),
        )

    async def list_jobs(
        self, team: str, limit: int = 20, after: JobPosition | None = None, job_filter: JobFilter = ALL_JOBS
    ) -> JobPage:
        return await self._run(
            "list_jobs",
            (team, limit, after, job_filter),
            lambda _: self.state.list_jobs(team, limit, after, job_filter),
        )

    async def list_milestones(self, job_id: str, after_number: int = 0) -> tuple[Milestone, ...]:
        return await self._run(
            "list_milestones", (job_id, after_number), lambda _: self.state.list_milestones(job_id, after_number)
        )

    # --- money

    async def load_balances(self, team: str, *windows: str, key_id: str = "") -> Mapping[str, BudgetBalance]:
        owner = make_owner(team, key_id)
        return await self._run(
            "load_balances", (owner, *windows), lambda _: self.state.ledger.load_balances(owner, windows)
        )

    async def list_ledger_entries(
        self, day: str, team: str | None = None, *, is_irregular: bool = False
    ) -> tuple[LedgerEntry, ...]:
        def list_entries(_: float) -> tuple[LedgerEntry, ...]:
            entries = self.state.ledger.list_entries(day, team)
            return tuple(entry for entry in entries if entry.is_irregular or not is_irregular)

        return await self._run("list_ledger_entries", (day, team, is_irregular), list_entries)

    async def delete_ledger_entries(self, day: str, team: str) -> None:
        await self._run("delete_ledger_entries", (day, team), lambda _: self.state.ledger.delete_entries(day, team))

    async def sum_totals(self, query: TotalsQuery) -> tuple[LineSum, ...]:
        query.list_periods()
        return await self._run("sum_totals", (query,), lambda _: self.state.ledger.sum_totals(query))

    async def post_correction(self, correction: Correction) -> bool:
        return await self._run(
            "post_correction", (correction,), lambda _: self.state.ledger.post_correction(correction)
        )

    async def list_day_totals(self, first_day: str, last_day: str, team: str | None = None) -> tuple[LedgerTotal, ...]:
        days = frozenset(list_days(first_day, last_day))
        return await self._run(
            "list_day_totals", (first_day, last_day, team), lambda _: self.state.ledger.list_totals(days, team)
        )

    # --- webhooks and signals

    async def claim_deliveries(self, limit: int = 20, lease: float = 60.0) -> tuple[ClaimedDelivery, ...]:
        return await self._run(
            "claim_deliveries", (limit, lease), lambda now: self.state.claim_deliveries(limit, now, now + lease)
        )

    async def ack_delivery(self, delivery_id: str, job_id: str) -> None:
        await self._run("ack_delivery", (delivery_id, job_id), lambda _: self.state.ack_delivery(delivery_id))

    async def retry_delivery(self, delivery_id: str, job_id: str, delay: float) -> None:
        await self._run(
            "retry_delivery",
            (delivery_id, job_id, delay),
            lambda now: self.state.retry_delivery(delivery_id, now + delay),
        )

    async def publish_signal(self, name: str, value: bytes) -> None:
        await self._run("publish_signal", (name, value), lambda now: self.state.publish_signal(name, value, now))

    async def read_signals(self) -> Mapping[str, bytes]:
        return await self._run("read_signals", (), self.state.read_signals)

    def watch(self, job_id: str) -> JobWatch:
        return JobWatch(self._watchers, job_id)

    # --- maintenance

    async def audit(self, partition: int, repair: bool = True) -> AuditReport:
        return await self._run(
            "audit",
            (partition, repair),
            lambda now: audit_and_retention.audit_partition(self.state, partition, repair, now),
        )

    async def claim_audit(self, interval_seconds: float) -> bool:
        return await self._run(
            "claim_audit", (interval_seconds,), lambda now: self.state.claim_audit(interval_seconds, now)
        )

    async def list_jobs_to_clean_up(self, limit: int = 100) -> tuple[str, ...]:
        return await self._run(
            "list_jobs_to_clean_up",
            (limit,),
            lambda now: audit_and_retention.list_jobs_to_clean_up(self.state, limit, now),
        )

    async def delete_job(self, job_id: str) -> None:
        await self._run("delete_job", (job_id,), lambda _: self.state.delete_job(job_id))

    async def delete_expired(self) -> None:
        await self._run(
            "delete_expired", (), lambda now: audit_and_retention.delete_expired(self.state, self.retention, now)
        )
