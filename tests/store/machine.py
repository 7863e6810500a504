"""Drives a real store and a model of it through the same life, and compares the two after every step."""

from collections.abc import Coroutine
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.jobs.commit import Commit, IdempotencyRecord, windows_of
from gateway.store.base import Outgoing
from gateway.store.books import Balance
from gateway.store.partitions import partition_of
from tests.store import orders
from tests.store.model import Entry, Model, what_may_happen
from tests.store.worlds import LEASE, World

NEAR, BESIDE = orders.teams_of_one_partition(2)
FAR = next(team for team in orders.teams_of_different_partitions(2) if partition_of(team) != partition_of(NEAR))
TEAMS = (NEAR, BESIDE, FAR)
# Multiples of eight: what ends by itself ends on one of them, or some seconds away from any.
SECONDS = (8.0, 8.0, 16.0, 64.0, 128.0, 4000.0)
RECORDS: tuple[IdempotencyRecord | None, ...] = (
    *(None, None, None, orders.key("key", "one body"), orders.key("key", "another body")),
    *(orders.soft(attach=attach, caller=caller) for attach in (-1, 0, 1, 2) for caller in ("one:1", "one:2", "two:1")),
)
LIMITS: tuple[dict[str, int], ...] = ({}, {}, {"day": 400_000}, {"month": 700_000}, {"day": 150_000, "month": 600_000})
CHANCE = st.integers(0, 2**30)


class StoreMachine(RuleBasedStateMachine):
    """`world` is made before and closed after all runs; each run begins with it empty."""

    world: ClassVar[World]
    steps: ClassVar[int]
    refused: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.world.raw.empty()
        # Ten minutes before a day and a month end.
        self.world.clock.now = orders.at("2040-05-31T23:50:00")
        self.model = Model(LEASE)
        self.last: tuple[Entry, ...] = ()

    @property
    def now(self) -> float:
        return self.world.now

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self.world.run(story)

    # --- what may be done

    @rule(
        team=st.sampled_from(TEAMS), n=st.integers(1, 3), limits=st.sampled_from(LIMITS), key=st.sampled_from(RECORDS)
    )
    def a_job_is_accepted(self, team: str, n: int, limits: dict[str, int], key: IdempotencyRecord | None) -> None:
        self.commits(self.world.acceptance(team, n=n, idempotency=key, webhook=n == 1, **limits))

    @rule(team=st.sampled_from(TEAMS))
    def it_is_asked_what_requests_have_become(self, team: str) -> None:
        for record in filter(None, RECORDS):
            assert self.run(self.world.store.recall(team, record)) == self.model.recalled(team, record, self.now)

    @rule(team=st.sampled_from(TEAMS), record=st.sampled_from([record for record in RECORDS if record]))
    def a_caller_leaves(self, team: str, record: IdempotencyRecord) -> None:
        self.run(self.world.store.remove_caller(team, record))
        self.model.leaves(team, record)

    @precondition(lambda self: self.model.jobs)
    @rule(which=CHANCE, what=CHANCE)
    def something_happens(self, which: int, what: int) -> None:
        """By the owner, or as a fact by anybody."""
        entry = self.one_of(self.model.open or list(self.model.jobs.values()), which)
        if possible := what_may_happen(entry.job, entry.fence, self.now):
            self.commits(possible[what % len(possible)])

    @precondition(lambda self: self.model.open)
    @rule(which=CHANCE, what=CHANCE, fence=st.sampled_from((-1, 1, 7)))
    def somebody_decides_who_is_not_the_owner(self, which: int, what: int, fence: int) -> None:
        entry = self.one_of(self.model.open, which)
        decisions = [one for one in what_may_happen(entry.job, entry.fence + fence, self.now) if one.fence is not None]
        if decisions:
            self.changes_nothing(decisions[what % len(decisions)])

    @precondition(lambda self: any(entry.before for entry in self.model.jobs.values()))
    @rule(which=CHANCE, what=CHANCE)
    def somebody_changes_what_the_job_no_longer_is(self, which: int, what: int) -> None:
        entry = self.one_of([entry for entry in self.model.jobs.values() if entry.before], which)
        assert entry.before is not None
        if possible := what_may_happen(entry.before, entry.fence, self.now):
            self.changes_nothing(possible[what % len(possible)])

    @precondition(lambda self: self.model.jobs)
    @rule(which=CHANCE, what=CHANCE)
    def a_commit_is_sent_again(self, which: int, what: int) -> None:
        commits = self.one_of(list(self.model.jobs.values()), which).commits
        self.changes_nothing(commits[what % len(commits)])

    @precondition(lambda self: self.model.jobs)
    @rule(most=st.sampled_from((1, 2, 100)))
    def jobs_are_claimed(self, most: int) -> None:
        claimed = self.run(self.world.store.claim(most))
        assert [self.model.jobs[one.job.id].due for one in claimed] == self.model.claimable(most, self.now)
        for one in claimed:
            entry = self.model.claimed(one.job.id, self.now)
            assert (one.job, one.fence, one.rescues) == (entry.job, entry.fence, entry.rescues)

    @precondition(lambda self: self.model.jobs)
    @rule(which=CHANCE, fence=st.sampled_from((0, 0, 0, 1, -1)))
    def leases_are_renewed(self, which: int, fence: int) -> None:
        """Of about half of the jobs."""
        chosen = [entry for number, entry in enumerate(self.model.jobs.values()) if which >> number % 30 & 1]
        leases = {entry.job.id: entry.fence + fence for entry in chosen}
        assert self.run(self.world.store.beat(leases)) == self.model.beat(leases, self.now)

    @precondition(lambda self: self.model.jobs)
    @rule(which=CHANCE, fence=st.sampled_from((0, 0, 0, -1)), seconds=st.sampled_from((0.0, 8.0, 600.0)))
    def a_job_is_given_away(self, which: int, fence: int, seconds: float) -> None:
        entry = self.one_of(list(self.model.jobs.values()), which)
        asked = entry.job.id, entry.fence + fence
        assert self.run(self.world.store.snooze(*asked, seconds)) == self.model.snooze(*asked, self.now + seconds)

    @rule(seconds=st.sampled_from(SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.world.passes(seconds)

    @precondition(lambda self: self.model.outbox)
    @rule(most=st.sampled_from((1, 20)), then=st.sampled_from(("arrives", "waits", "is postponed")))
    def webhooks_are_sent(self, most: int, then: str) -> None:
        waiting = sorted(one.at for one in self.model.outbox.values() if one.at <= self.now)
        claimed = self.run(self.world.store.claim_deliveries(most, lease=24.0))
        assert [self.model.outbox[one.delivery.id].at for one in claimed] == waiting[:most]
        for one in claimed:
            self.is_sent(one, then)

    def is_sent(self, one: Outgoing, then: str) -> None:
        known = self.model.outbox[one.delivery.id]
        known.tries, known.at = known.tries + 1, self.now + 24.0
        assert (one.delivery, one.tries) == (known.delivery, known.tries)
        if then == "arrives":
            self.run(self.world.store.delivered(one.delivery.id, one.delivery.job))
            del self.model.outbox[one.delivery.id]
        elif then == "is postponed":
            self.run(self.world.store.postpone(one.delivery.id, one.delivery.job, 320.0))
            known.at = self.now + 320.0

    # --- how it is done

    @staticmethod
    def one_of(entries: list[Entry], which: int) -> Entry:
        return entries[which % len(entries)]

    def commits(self, commit: Commit) -> None:
        assert self.run(self.world.store.commit(commit)) == self.model.commit(commit, self.now)
        self.last = tuple(entry for name, entry in self.model.jobs.items() if name == commit.job.id)

    def changes_nothing(self, commit: Commit) -> None:
        before = self.world.raw.dump()
        self.commits(commit)
        assert self.world.raw.dump() == before
        type(self).refused += 1

    # --- what must hold after each step

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        type(self).steps += 1
        self.whatever_is_unsettled_is_due_and_nothing_else()
        self.money_is_what_jobs_and_ledger_say()
        self.run(self.nobody_finds_anything_wrong())

    def whatever_is_unsettled_is_due_and_nothing_else(self) -> None:
        due = self.world.raw.due()
        assert due.keys() == {entry.job.id for entry in self.model.open}
        assert {name: round(at, 3) for name, at in due.items()} == {
            name: round(at, 3) for name, at in self.model.due.items()
        }

    def money_is_what_jobs_and_ledger_say(self) -> None:
        right = self.model.balances()
        for key, balance in self.world.raw.balances().items():
            assert balance.held >= 0
            assert balance == right.pop(key, Balance())
        assert set(right.values()) <= {Balance()}
        assert sorted(map(repr, self.world.raw.ledger())) == sorted(map(repr, self.model.ledger))

    async def nobody_finds_anything_wrong(self) -> None:
        """In the jobs that are open, and in the one that was changed last."""
        store = self.world.store
        looked_at = {entry.job.id: entry.job for entry in (*self.model.open, *self.last)}
        loads = [store.load(name) for name in looked_at]
        audits = [store.audit(partition, repair=False) for partition in self.partitions()]
        found, findings = await orders.together((orders.together(loads), orders.together(audits)))
        assert found == list(looked_at.values())
        assert [one.violations for one in findings] == [0] * len(findings)

    def teardown(self) -> None:
        """At the end of a run, what the store's own reading says of the same."""
        self.run(self.what_is_read_is_as_the_model())

    async def what_is_read_is_as_the_model(self) -> None:
        model, store = self.model, self.world.store
        loads = await orders.together(store.load(name) for name in model.jobs)
        assert loads == [entry.job for entry in model.jobs.values()]
        right = model.balances()
        windows = sorted({window for entry in model.jobs.values() for window in windows_of(entry.job.created)})
        for team in TEAMS:
            expected = {window: right.get((team, window), Balance()) for window in windows}
            assert await store.budget(team, *windows) == expected
            assert set((await store.list(team, 100)).jobs) == {
                entry.job for entry in model.jobs.values() if entry.job.team == team
            }

    def partitions(self) -> list[int]:
        """Those in use."""
        return [one for one in self.world.store.partitions if one in {partition_of(team) for team in TEAMS}] or [0]
