"""Metrics of the store: exact money in few series, absent rather than wrong while the store is unavailable."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from gateway.config.budget_schema import BudgetConfig
from gateway.config.schema import TeamConfig
from gateway.config.value_types import Usd
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import StoreUnavailable
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.statistics import Backlog, OpenState
from gateway.telemetry import store_metric_table as table
from gateway.telemetry.store_metrics import MAX_FOLDED_BUDGETS
from gateway.telemetry.team_labels import MAX_TEAMS, OTHER
from providers.orders import Cell, Operation
from tests.store import job_factory
from tests.unit.telemetry.store_reader_harness import CELLS, TIMING, ReaderHarness, make_total

HOSTILE_TEAM = 'a"b\\c\n{x="1"} 9'


@pytest.fixture
def harness() -> ReaderHarness:
    return ReaderHarness()


# Failed orders of canaries have no money, and no series.
MONEY_LINES = [line for line in LedgerLine if line is not LedgerLine.FAILED]


def sum_micros(values: Iterable[float]) -> int:
    """Sums floats as a dashboard does, and rounds the sum to the micro-USD."""
    return round(sum(values) * 1_000_000)


@pytest.mark.parametrize("seed", range(5))
def test_sums_of_both_families_are_exact_to_the_micro_usd(harness: ReaderHarness, seed: int) -> None:
    """For amounts from a fraction of a cent to a hundred million USD."""
    numbers = random.Random(seed)  # noqa: S311
    harness.statistics.totals = tuple(
        make_total(
            f"team-{team}",
            line,
            cell=cell,
            seller=seller,
            charged=numbers.randrange(10 ** numbers.randrange(1, 13)),
            corrected=numbers.randrange(10_000),
        )
        for team in range(60)
        for line in MONEY_LINES
        for cell in CELLS
        for seller in ("s", "t")
    )
    harness.refresh()
    charged = sum(total.charged for total in harness.statistics.totals)
    corrected = sum(total.corrected for total in harness.statistics.totals)
    for spend, corrections, _ in (table.BOOKED_BY_TEAM, table.BOOKED_BY_CELL):
        assert sum_micros(harness.read_samples(spend).values()) == charged
        assert sum_micros(harness.read_samples(corrections).values()) == corrected


def test_each_series_is_exact_to_the_micro_usd(harness: ReaderHarness) -> None:
    amounts = [1, 999_999, 10**6 + 1, 123_456_789_012_345, 4 * 10**15 + 1]
    harness.statistics.totals = tuple(make_total(f"t{index}", charged=amount) for index, amount in enumerate(amounts))
    harness.refresh()
    samples = harness.read_samples(table.SPEND)
    assert [round(samples[f"t{index}", "s", "m", "capture"] * 1_000_000) for index in range(5)] == amounts


def test_images_are_those_that_were_captured(harness: ReaderHarness) -> None:
    harness.statistics.totals = (
        make_total(charged=5, charged_images=3),
        make_total(line=LedgerLine.ORPHAN, charged=5, charged_images=2),
        make_total("b", charged=5, charged_images=4, cell=CELLS[1]),
    )
    harness.refresh()
    assert harness.read_samples(table.IMAGES_DELIVERED) == {("a", "s", "m"): 3, ("b", "s", "m"): 4}
    assert set(harness.read_samples(table.CELL_IMAGES_DELIVERED).values()) == {3, 4}
    assert harness.read_samples(table.SPEND_CORRECTIONS) == {}


def test_former_and_hostile_teams_keep_their_money(harness: ReaderHarness) -> None:
    harness.teams["a"] = TeamConfig()
    harness.statistics.totals = (make_total(charged=1), make_total(HOSTILE_TEAM, charged=2))
    harness.refresh()
    assert set(harness.read_samples(table.SPEND)) == {("a", "s", "m", "capture"), (HOSTILE_TEAM, "s", "m", "capture")}


def test_teams_beyond_the_limit_share_a_label(harness: ReaderHarness) -> None:
    """Configured teams come first, in their order, then former ones by name."""
    harness.teams.update({f"configured-{number}": TeamConfig() for number in reversed(range(MAX_TEAMS - 1))})
    harness.statistics.totals = tuple(make_total(f"former-{number:03}", charged=1_000_000) for number in range(500))
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {
        ("former-000", "s", "m", "capture"): 1.0,
        (OTHER, "s", "m", "capture"): 499.0,
    }
    harness.teams["new"] = TeamConfig()
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {(OTHER, "s", "m", "capture"): 500.0}


def test_budgets_of_teams_that_share_a_label_are_shown_by_name_if_little_is_left(harness: ReaderHarness) -> None:
    """So an alert names the team. A budget of 0 is never nearly spent."""
    budget = BudgetConfig(day=Usd(10_000_000))
    harness.teams.update({f"team-{number}": TeamConfig(budget=budget) for number in range(MAX_TEAMS + 100)})
    harness.teams["closed"] = TeamConfig(budget=BudgetConfig(day=Usd(0)))
    spent = {f"team-{number}": number * 10_000 for number in range(MAX_TEAMS + 100)} | {f"team-{MAX_TEAMS}": 9_500_000}
    harness.statistics.balances = {
        (team, job_factory.DAY): BudgetBalance(spent=amount) for team, amount in spent.items()
    }
    harness.refresh()
    left = harness.read_samples(table.BUDGET_LEFT)
    own, last = range(MAX_TEAMS), MAX_TEAMS + 100
    folded = [MAX_TEAMS, *range(last - MAX_FOLDED_BUDGETS + 1, last)]
    assert left.keys() == {(f"team-{number}", "day") for number in (*own, *folded)}
    assert left[f"team-{MAX_TEAMS}", "day"] == 0.5
    assert (
        harness.read_samples(table.BUDGET_LIMIT).keys()
        == harness.read_samples(table.BUDGET_SPENT).keys()
        == left.keys()
    )


def test_budget_shows_what_is_left(harness: ReaderHarness) -> None:
    harness.teams |= {
        "a": TeamConfig(budget=BudgetConfig(day=Usd(10_000_000), month=Usd(50_000_000))),
        "b": TeamConfig(),
        "c": TeamConfig(budget=BudgetConfig(month=Usd(1_000_000))),
    }
    harness.statistics.balances = {
        ("a", job_factory.DAY): BudgetBalance(held=1_000_000, spent=2_500_000),
        ("a", job_factory.MONTH): BudgetBalance(held=1_500_000, spent=20_000_000),
        ("b", job_factory.MONTH): BudgetBalance(held=250_000),
        ("a", "2040-04"): BudgetBalance(held=3_000_000, spent=9_000_000),
        ("former", "2040-04"): BudgetBalance(held=125_000),
    }
    harness.refresh()
    limits = {("a", "day"): 10.0, ("a", "month"): 50.0, ("c", "month"): 1.0}
    assert harness.read_samples(table.BUDGET_LIMIT) == limits
    assert harness.read_samples(table.BUDGET_SPENT) == {("a", "day"): 2.5, ("a", "month"): 20.0, ("c", "month"): 0.0}
    assert harness.read_samples(table.BUDGET_LEFT) == {("a", "day"): 6.5, ("a", "month"): 28.5, ("c", "month"): 1.0}
    holds = {team: value for (team,), value in harness.read_samples(table.HOLDS).items()}
    assert holds == {"a": 4.5, "b": 0.25, "former": 0.125}


@pytest.mark.parametrize(
    ("now", "windows"),
    [
        ("2040-05-10T23:59:59", ("2040-05-10", "2040-05", "2040-04")),
        ("2040-05-11T00:00:00", ("2040-05-11", "2040-05", "2040-04")),
        ("2040-01-01T00:00:00", ("2040-01-01", "2040-01", "2039-12")),
        ("2040-03-31T12:00:00", ("2040-03-31", "2040-03", "2040-02")),
    ],
)
def test_budget_windows_are_those_of_today(harness: ReaderHarness, now: str, windows: tuple[str, ...]) -> None:
    harness.clock.now = job_factory.parse_utc_time(now)
    harness.refresh()
    assert harness.statistics.windows == windows


def test_budget_is_free_again_after_midnight_and_spend_stays(harness: ReaderHarness) -> None:
    harness.teams["a"] = TeamConfig(budget=BudgetConfig(day=Usd(10_000_000)))
    harness.statistics.balances = {("a", job_factory.DAY): BudgetBalance(spent=2_500_000)}
    harness.statistics.totals = (make_total(charged=2_500_000),)
    harness.refresh()
    assert harness.read_samples(table.BUDGET_LEFT) == {("a", "day"): 7.5}
    harness.clock.now += 86_400.0
    harness.refresh()
    assert harness.read_samples(table.BUDGET_LEFT) == {("a", "day"): 10.0}
    assert harness.read_samples(table.SPEND) == {("a", "s", "m", "capture"): 2.5}


def test_backlog_and_heartbeats_are_shown(harness: ReaderHarness) -> None:
    jobs = {OpenState.QUEUED: 2, OpenState.IN_PROGRESS: 1, OpenState.ENDED: 0}
    harness.statistics.backlog = Backlog(jobs=jobs, oldest_seconds=7.5, due_lag_seconds=1.5)
    harness.statistics.heartbeats = {"one": 0.0, "two": 60.0}
    harness.refresh()
    assert harness.read_samples(table.OPEN_JOBS) == {("queued",): 2, ("in_progress",): 1, ("ended",): 0}
    assert harness.read_samples(table.OLDEST_OPEN_JOB) == {(): 7.5}
    assert harness.read_samples(table.DUE_LAG) == {(): 1.5}
    assert harness.read_samples(table.REPLICA_HEARTBEAT) == {("one",): 0.0, ("two",): 60.0}


def test_values_become_absent_while_the_store_is_unavailable(harness: ReaderHarness) -> None:
    harness.statistics.totals = (make_total(charged=1_000_000),)
    assert harness.read_samples(table.SPEND) == {}, "nothing was read yet"
    harness.refresh()
    harness.statistics.error = StoreUnavailable("Redis is gone.")
    harness.clock.now += TIMING.store_metric_max_age_seconds - 1.0
    with pytest.raises(StoreUnavailable):
        harness.refresh()
    assert harness.read_samples(table.SPEND) == {("a", "s", "m", "capture"): 1.0}
    harness.clock.now += 2.0
    assert harness.count_series() == 0
    assert harness.read_samples(table.STORE_READING_AGE) == {(): TIMING.store_metric_max_age_seconds + 1.0}
    harness.statistics.error = None
    harness.statistics.totals = (make_total(charged=3_000_000),)
    harness.refresh()
    assert harness.read_samples(table.SPEND) == {("a", "s", "m", "capture"): 3.0}


def test_series_are_few_however_many_teams_and_replicas_there_are(harness: ReaderHarness) -> None:
    """With three sellers of one model in eighteen cells, and a few orphans. The other metrics have room for 1,200."""
    numbers = random.Random(1)  # noqa: S311
    limited = TeamConfig(budget=BudgetConfig(day=Usd(1), month=Usd(1)))
    harness.teams.update({f"team-{number}": limited for number in range(1_000)})
    cells = [
        Cell(operation, size, quality) for operation in Operation for size in ("1k", "2k", "4k") for quality in "lmh"
    ]
    drawn = Counter(
        (f"team-{numbers.randrange(1_000)}", numbers.choice("stu"), numbers.randrange(len(cells)))
        for _ in range(10_000)
    )
    harness.statistics.totals = tuple(
        make_total(team, seller=seller, cell=cells[cell], charged=1, charged_images=1) for team, seller, cell in drawn
    )
    harness.statistics.heartbeats = {str(number): float(number) for number in range(1_000)}
    harness.refresh()
    assert harness.count_series() < 800
