"""Budgets of teams and API keys in four windows: what counts, what is refused, and what the audit repairs."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.jobs.budgets import BudgetLimits, KeyBudget, WindowKind, get_window, make_owner
from gateway.jobs.job_update_types import CancelRequested
from gateway.store.audit import AuditReport, BudgetDrift
from gateway.store.base import DAY_SECONDS, Applied, BudgetExceeded, Retention
from gateway.store.budget_balances import load_balance
from gateway.store.ledger_totals import BudgetBalance, sum_balances
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH, PRICE
from tests.store.store_harness import StoreHarness

KEY = "k1"
JOBS_PER_REPLICA, JOBS_IN_BUDGET = 60, 20
SHORT_RETENTION = Retention(ledger=DAY_SECONDS, totals=DAY_SECONDS)


def make_key_budget(key_id: str = KEY, **limits: int) -> KeyBudget:
    return KeyBudget(key_id, BudgetLimits(**limits))


async def load_window(harness: StoreHarness, kind: WindowKind, key_id: str = "") -> BudgetBalance:
    return await load_balance(harness.store, make_owner("acme", key_id), get_window(kind, harness.now))


@pytest.mark.parametrize("key_id", ["", KEY], ids=["team", "key"])
@pytest.mark.parametrize("kind", WindowKind)
async def test_two_replicas_admit_exactly_the_jobs_of_a_budget(
    shared_harness: StoreHarness, kind: WindowKind, key_id: str
) -> None:
    harness, limits = shared_harness, {kind.value: JOBS_IN_BUDGET * CEILING}
    changes = {"key_budget": make_key_budget(**limits)} if key_id else limits
    async with harness.open_another() as other:
        commits = [harness.make_create_commit(**changes) for _ in range(2 * JOBS_PER_REPLICA)]
        stores = (harness.store, other) * JOBS_PER_REPLICA
        outcomes = await job_factory.gather_all(
            store.commit(commit) for store, commit in zip(stores, commits, strict=True)
        )
    assert outcomes.count(Applied()) == JOBS_IN_BUDGET
    assert sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes) == len(commits) - JOBS_IN_BUDGET
    assert (await load_window(harness, kind, key_id)).held == JOBS_IN_BUDGET * CEILING


async def test_budget_of_a_key_leaves_its_team_and_other_keys_alone(harness: StoreHarness) -> None:
    budget = make_key_budget(day=CEILING)
    assert await harness.try_create_job(key_budget=budget) == Applied()
    refused = await harness.commit_without_effect(harness.make_create_commit(key_budget=budget))
    assert refused == [job_factory.make_exceeded(WindowKind.DAY, CEILING, held=CEILING, owner=make_owner("acme", KEY))]
    assert await harness.try_create_job(key_budget=make_key_budget("k2", day=CEILING)) == Applied()
    assert await harness.try_create_job() == Applied()
    assert (await load_window(harness, WindowKind.DAY)).held == 3 * CEILING
    assert (await load_window(harness, WindowKind.DAY, KEY)).held == CEILING


async def test_refusal_names_the_budget_that_returns_last(harness: StoreHarness) -> None:
    await harness.create_job(key_budget=make_key_budget(day=CEILING))
    limits = {"day": CEILING, "week": CEILING, "month": 5 * CEILING}
    outcome = await harness.try_create_job(key_budget=make_key_budget(day=CEILING, month=CEILING), **limits)
    assert outcome == job_factory.make_exceeded(WindowKind.MONTH, CEILING, held=CEILING, owner=make_owner("acme", KEY))
    outcome = await harness.try_create_job(key_budget=make_key_budget(day=CEILING), **limits)
    assert outcome == job_factory.make_exceeded(WindowKind.WEEK, CEILING, held=CEILING)


async def test_captured_and_released_money_of_a_key_is_free_again(harness: StoreHarness) -> None:
    budget = make_key_budget(lifetime=CEILING + PRICE)
    await harness.create_settled_job(key_budget=budget)
    job = await harness.create_job(key_budget=budget)
    assert await load_window(harness, WindowKind.LIFETIME, KEY) == BudgetBalance(held=CEILING, spent=PRICE)
    assert isinstance(await harness.try_create_job(key_budget=budget), BudgetExceeded)
    await harness.apply_updates(job, CancelRequested())
    assert await harness.try_create_job(key_budget=budget) == Applied()


async def test_week_is_the_sum_of_its_days_over_month_and_year_ends(harness: StoreHarness) -> None:
    """Three weeks, day by day. The first of January 2041 is a Tuesday."""
    harness.clock.now = job_factory.parse_utc_time("2040-12-20T10:00:00")
    for number in range(21):
        day = datetime.fromtimestamp(harness.now, UTC).date()
        for _ in range(1 + number % 3):
            await harness.create_settled_job(key_budget=make_key_budget(week=10**9))
        monday = day - timedelta(days=day.weekday())
        days = [(monday + timedelta(days=offset)).isoformat() for offset in range(7)]
        for key_id in ("", KEY):
            balances = await harness.store.load_balances("acme", *days, key_id=key_id)
            assert await load_window(harness, WindowKind.WEEK, key_id) == sum_balances(balances.values())
            spent = sum(1 + earlier % 3 for earlier in range(max(0, number - day.weekday()), number + 1)) * PRICE
            assert (await load_window(harness, WindowKind.WEEK, key_id)).spent == spent
        harness.advance_time(DAY_SECONDS)


async def test_week_limit_holds_over_the_end_of_a_month(harness: StoreHarness) -> None:
    """The 31st of May 2040 is a Thursday."""
    harness.clock.now = job_factory.parse_utc_time("2040-05-31T23:00:00")
    assert await harness.try_create_job(week=CEILING) == Applied()
    harness.advance_time(3 * DAY_SECONDS)
    assert isinstance(await harness.try_create_job(week=CEILING), BudgetExceeded)
    harness.advance_time(3_601.0)
    assert await harness.try_create_job(week=CEILING) == Applied()


async def test_lifetime_limit_holds_for_years_and_after_deletion(harness: StoreHarness) -> None:
    budget = make_key_budget(lifetime=3 * CEILING)
    for _ in range(2):
        assert await harness.try_create_job(lifetime=3 * CEILING, key_budget=budget) == Applied()
        harness.advance_time(200 * DAY_SECONDS)
        await harness.store.delete_expired()
    assert await harness.try_create_job(lifetime=3 * CEILING) == Applied()
    harness.advance_time(200 * DAY_SECONDS)
    assert isinstance(await harness.try_create_job(lifetime=3 * CEILING), BudgetExceeded)
    assert await harness.try_create_job(key_budget=budget) == Applied()
    harness.advance_time(4_000 * DAY_SECONDS)
    assert isinstance(await harness.try_create_job(key_budget=budget), BudgetExceeded)


async def test_days_of_a_week_survive_the_shortest_retention(harness: StoreHarness) -> None:
    harness.clock.now = job_factory.parse_utc_time("2040-05-28T10:00:00")
    store = await harness.reopen(retention=SHORT_RETENTION)
    await harness.create_settled_job()
    harness.advance_time(6 * DAY_SECONDS)
    await store.delete_expired()
    assert (await load_window(harness, WindowKind.WEEK)).spent == PRICE


@pytest.mark.parametrize(("held", "spent"), [(1, 0), (0, -PRICE), (-CEILING, 7)])
@pytest.mark.parametrize("window", [DAY, MONTH])
async def test_changed_balance_of_a_key_is_repaired(harness: StoreHarness, window: str, held: int, spent: int) -> None:
    budget, owner = make_key_budget(day=10**9), make_owner("acme", KEY)
    await harness.create_job(key_budget=budget)
    await harness.create_settled_job(key_budget=budget)
    before = await harness.store.load_balances("acme", DAY, MONTH, key_id=KEY)
    harness.raw_store.change_balance(owner, window, held, spent)
    partition = job_factory.team_partition("acme")
    partition = partition if partition in harness.store.partitions else harness.store.partitions[0]
    drift = BudgetDrift(owner=owner, window=window, held=-held, spent=-spent)
    assert await harness.store.audit(partition) == AuditReport(budget_drifts=(drift,))
    assert await harness.store.audit(partition) == AuditReport()
    assert await harness.store.load_balances("acme", DAY, MONTH, key_id=KEY) == before


async def test_listed_balances_of_teams_contain_those_of_their_keys(harness: StoreHarness) -> None:
    await harness.create_job(key_budget=make_key_budget(month=10**9))
    assert await harness.store.statistics.list_balances(DAY) == {("acme", DAY): BudgetBalance(held=CEILING)}
