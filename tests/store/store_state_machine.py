"""Applies the same random steps to a store and to a model, and compares them after every step.

The model is the data of a store in memory (`tests/harness/memory_store`), without any replica around it.
"""

from collections.abc import Coroutine
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.jobs.budgets import BudgetLimits, KeyBudget, list_budget_windows
from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.store.base import ClaimedDelivery
from gateway.store.job_watch import JobWatchers
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.partitions import team_partition
from tests.harness.memory_store import LeaseOwner, MemoryState, StoredJob, job_leases
from tests.store import job_factory
from tests.store.possible_commits import list_possible_commits
from tests.store.store_harness import LEASE_SECONDS, StoreHarness

TEAM, TEAM_IN_SAME_PARTITION = job_factory.pick_teams_of_one_partition(2)
TEAM_IN_OTHER_PARTITION = next(
    team for team in job_factory.pick_teams_of_different_partitions(2) if team_partition(team) != team_partition(TEAM)
)
TEAMS = (TEAM, TEAM_IN_SAME_PARTITION, TEAM_IN_OTHER_PARTITION)
# Multiples of eight: each expiry is at one of them, or some seconds away from all.
TIME_STEPS = (8.0, 8.0, 16.0, 64.0, 128.0, 4000.0)
IDEMPOTENCY_RECORDS: tuple[IdempotencyRecord | None, ...] = (
    *(
        None,
        None,
        None,
        job_factory.make_client_key("key", "one body"),
        job_factory.make_client_key("key", "another body"),
    ),
    *(
        job_factory.make_body_key(retry_count=retry_count, caller_id=caller_id)
        for retry_count in (-1, 0, 1, 2)
        for caller_id in ("one:1", "one:2", "two:1")
    ),
)
BUDGET_LIMITS: tuple[dict[str, int], ...] = (
    {},
    {},
    {"day": 400_000},
    {"week": 500_000},
    {"month": 700_000},
    {"day": 150_000, "month": 600_000, "lifetime": 650_000},
)
KEY_BUDGETS = (
    None,
    None,
    KeyBudget("k1", BudgetLimits(week=200_000)),
    KeyBudget("k2", BudgetLimits(day=100_000, lifetime=150_000)),
)
# An enumeration that was stored is read as text.
_ENCODE = msgspec.json.Encoder().encode
RANDOM_INDEX = st.integers(0, 2**30)
OWNER = LeaseOwner("one", LEASE_SECONDS)
OTHER_REPLICA_ID = "two"


class StoreStateMachine(RuleBasedStateMachine):
    """The machine. `harness` is shared by all runs; each run starts with an empty store."""

    harness: ClassVar[StoreHarness]
    step_count: ClassVar[int]
    refused_count: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.harness.raw_store.delete_everything()
        # Ten minutes before the end of a day and a month.
        self.harness.clock.now = job_factory.parse_utc_time("2040-05-31T23:50:00")
        self.model = MemoryState()
        for replica_id in (OWNER.replica_id, OTHER_REPLICA_ID):
            self.model.open_replica(replica_id, JobWatchers())
        self.last_changed: tuple[StoredJob, ...] = ()

    @property
    def now(self) -> float:
        return self.harness.now

    def run_async(self, scenario: Coroutine[Any, Any, Any]) -> Any:
        return self.harness.run_async(scenario)

    # --- rules

    @rule(
        team=st.sampled_from(TEAMS),
        n=st.integers(1, 3),
        limits=st.sampled_from(BUDGET_LIMITS),
        key_budget=st.sampled_from(KEY_BUDGETS),
        key=st.sampled_from(IDEMPOTENCY_RECORDS),
    )
    def create_job(
        self,
        team: str,
        n: int,
        limits: dict[str, int],
        key_budget: KeyBudget | None,
        key: IdempotencyRecord | None,
    ) -> None:
        changes: dict[str, Any] = {
            "n": n,
            "idempotency": key,
            "key_budget": key_budget,
            "has_webhook": n == 1,
            **limits,
        }
        self.commit_to_both(self.harness.make_create_commit(team, **changes))

    @rule(team=st.sampled_from(TEAMS))
    def find_jobs_by_idempotency(self, team: str) -> None:
        for record in filter(None, IDEMPOTENCY_RECORDS):
            assert self.run_async(
                self.harness.store.find_by_idempotency(team, record)
            ) == self.model.find_by_idempotency(team, record, self.now)

    @rule(team=st.sampled_from(TEAMS), record=st.sampled_from([record for record in IDEMPOTENCY_RECORDS if record]))
    def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        self.run_async(self.harness.store.remove_caller(team, record))
        self.model.remove_caller(team, record)

    @precondition(lambda self: self.model.jobs)
    @rule(job_index=RANDOM_INDEX, commit_index=RANDOM_INDEX)
    def apply_possible_update(self, job_index: int, commit_index: int) -> None:
        """Applies a decision of the owner, or a fact from any replica."""
        entry = self.pick_entry(self.model.open_jobs or list(self.model.jobs.values()), job_index)
        if possible := list_possible_commits(entry.job, entry.fence, self.now):
            self.commit_to_both(possible[commit_index % len(possible)])

    @precondition(lambda self: self.model.open_jobs)
    @rule(job_index=RANDOM_INDEX, commit_index=RANDOM_INDEX, fence=st.sampled_from((-1, 1, 7)))
    def refuse_decision_of_non_owner(self, job_index: int, commit_index: int, fence: int) -> None:
        entry = self.pick_entry(self.model.open_jobs, job_index)
        decisions = [
            commit
            for commit in list_possible_commits(entry.job, entry.fence + fence, self.now)
            if commit.fence is not None
        ]
        if decisions:
            self.commit_without_effect(decisions[commit_index % len(decisions)])

    @precondition(lambda self: any(entry.previous_job for entry in self.model.jobs.values()))
    @rule(job_index=RANDOM_INDEX, commit_index=RANDOM_INDEX)
    def refuse_outdated_update(self, job_index: int, commit_index: int) -> None:
        entry = self.pick_entry([entry for entry in self.model.jobs.values() if entry.previous_job], job_index)
        assert entry.previous_job is not None
        if possible := list_possible_commits(entry.previous_job, entry.fence, self.now):
            self.commit_without_effect(possible[commit_index % len(possible)])

    @precondition(lambda self: self.model.jobs)
    @rule(job_index=RANDOM_INDEX, commit_index=RANDOM_INDEX)
    def repeat_commit(self, job_index: int, commit_index: int) -> None:
        commits = self.pick_entry(list(self.model.jobs.values()), job_index).commits
        self.commit_without_effect(commits[commit_index % len(commits)])

    @precondition(lambda self: self.model.jobs)
    @rule(limit=st.sampled_from((1, 2, 100)))
    def claim_jobs(self, limit: int) -> None:
        """Jobs that are due at the same time may be claimed in any order."""
        claimed = self.run_async(self.harness.store.claim_jobs(limit))
        expected_ids = job_leases.list_claimable(self.model, limit, self.now)
        due_times = self.model.due_times
        assert [due_times[claim.job.id] for claim in claimed] == [due_times[job_id] for job_id in expected_ids]
        for claim in claimed:
            assert claim == job_leases.claim_job(self.model, claim.job.id, OWNER, self.now)

    @precondition(lambda self: self.model.jobs)
    @rule(job_index=RANDOM_INDEX, fence=st.sampled_from((0, 0, 0, 1, -1)))
    def renew_leases(self, job_index: int, fence: int) -> None:
        """Renews the leases of about half of the jobs."""
        entries = [entry for number, entry in enumerate(self.model.jobs.values()) if job_index >> number % 30 & 1]
        leases = {entry.job.id: entry.fence + fence for entry in entries}
        assert self.run_async(self.harness.store.renew_leases(leases)) == job_leases.renew_leases(
            self.model, leases, OWNER, self.now
        )

    @precondition(lambda self: self.model.jobs)
    @rule(job_index=RANDOM_INDEX, fence=st.sampled_from((0, 0, 0, -1)), seconds=st.sampled_from((0.0, 8.0, 600.0)))
    def release_job(self, job_index: int, fence: int, seconds: float) -> None:
        entry = self.pick_entry(list(self.model.jobs.values()), job_index)
        job_and_fence = entry.job.id, entry.fence + fence
        assert self.run_async(self.harness.store.release_job(*job_and_fence, seconds)) == job_leases.release_job(
            self.model, *job_and_fence, OWNER, self.now + seconds
        )

    @rule(seconds=st.sampled_from(TIME_STEPS))
    def advance_time(self, seconds: float) -> None:
        self.harness.advance_time(seconds)

    @precondition(lambda self: self.model.outbox)
    @rule(limit=st.sampled_from((1, 20)), result=st.sampled_from(("acknowledged", "ignored", "retried")))
    def send_webhooks(self, limit: int, result: str) -> None:
        outbox = self.model.outbox
        due_times = [outbox[delivery_id].due_at for delivery_id in self.model.list_due_deliveries(limit, self.now)]
        claimed = self.run_async(self.harness.store.claim_deliveries(limit, lease=24.0))
        assert [outbox[delivery.delivery.id].due_at for delivery in claimed] == due_times
        for delivery in claimed:
            assert delivery == self.model.claim_delivery(delivery.delivery.id, self.now + 24.0)
            self.finish_delivery(delivery, result)

    def finish_delivery(self, claimed: ClaimedDelivery, result: str) -> None:
        delivery_id, job_id = claimed.delivery.id, claimed.delivery.job
        if result == "acknowledged":
            self.run_async(self.harness.store.ack_delivery(delivery_id, job_id))
            self.model.ack_delivery(delivery_id)
        elif result == "retried":
            self.run_async(self.harness.store.retry_delivery(delivery_id, job_id, 320.0))
            self.model.retry_delivery(delivery_id, self.now + 320.0)

    # --- helpers

    @staticmethod
    def pick_entry(entries: list[StoredJob], index: int) -> StoredJob:
        return entries[index % len(entries)]

    def commit_to_both(self, commit: Commit) -> None:
        assert self.run_async(self.harness.store.commit(commit)) == self.model.commit(commit, OWNER, self.now)
        self.last_changed = tuple(entry for name, entry in self.model.jobs.items() if name == commit.job.id)

    def commit_without_effect(self, commit: Commit) -> None:
        before = self.harness.raw_store.dump_everything()
        self.commit_to_both(commit)
        assert self.harness.raw_store.dump_everything() == before
        type(self).refused_count += 1

    # --- invariants

    @invariant()
    def check_store_matches_model(self) -> None:
        type(self).step_count += 1
        self.check_due_times()
        self.check_money()
        self.run_async(self.check_loads_and_audits())

    def check_due_times(self) -> None:
        due = self.harness.raw_store.read_due_times()
        assert due.keys() == {entry.job.id for entry in self.model.open_jobs}
        assert {name: round(at, 3) for name, at in due.items()} == {
            name: round(at, 3) for name, at in self.model.due_times.items()
        }

    def check_money(self) -> None:
        expected = self.model.compute_balances()
        for key, balance in self.harness.raw_store.read_balances().items():
            assert balance.held >= 0
            assert balance == expected.pop(key, BudgetBalance())
        assert set(expected.values()) <= {BudgetBalance()}
        assert sorted(map(_ENCODE, self.harness.raw_store.read_ledger())) == sorted(
            map(_ENCODE, self.model.ledger.entries)
        )

    async def check_loads_and_audits(self) -> None:
        """Loads the open jobs and the one that was changed last, and audits all partitions."""
        store = self.harness.store
        expected_jobs = {entry.job.id: entry.job for entry in (*self.model.open_jobs, *self.last_changed)}
        loads = [store.load_job(name) for name in expected_jobs]
        audits = [store.audit(partition, repair=False) for partition in self.list_partitions()]
        loaded_jobs, reports = await job_factory.gather_all(
            (job_factory.gather_all(loads), job_factory.gather_all(audits))
        )
        assert loaded_jobs == list(expected_jobs.values())
        assert [report.discrepancy_count for report in reports] == [0] * len(reports)

    def teardown(self) -> None:
        """Compares the results of the store's queries with the model at the end of a run."""
        self.run_async(self.check_reads_match_model())

    async def check_reads_match_model(self) -> None:
        model, store = self.model, self.harness.store
        loaded_jobs = await job_factory.gather_all(store.load_job(name) for name in model.jobs)
        assert loaded_jobs == [entry.job for entry in model.jobs.values()]
        records = await job_factory.gather_all(store.load_decision_record(name) for name in model.jobs)
        assert records == [model.decision_records.load(name) for name in model.jobs]
        expected_balances = model.compute_balances()
        windows = sorted(
            {window for entry in model.jobs.values() for window in list_budget_windows(entry.job.created_at)}
        )
        for team in TEAMS:
            expected = {window: expected_balances.get((team, window), BudgetBalance()) for window in windows}
            assert await store.load_balances(team, *windows) == expected
            assert set((await store.list_jobs(team, 100)).jobs) == {
                entry.job for entry in model.jobs.values() if entry.job.team == team
            }

    def list_partitions(self) -> list[int]:
        """Returns the partitions of the teams."""
        return [
            partition
            for partition in self.harness.store.partitions
            if partition in {team_partition(team) for team in TEAMS}
        ] or [0]
