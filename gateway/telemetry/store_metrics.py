"""Metrics that are read from the store by a task, every few seconds: money, budgets, the backlog, heartbeats.

All replicas publish the same values, which no kill or restart of a process can lose.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from msgspec import Struct

from gateway.catalogue import Catalogue
from gateway.jobs.budgets import BudgetLimit, list_budget_windows, list_limits
from gateway.jobs.transition_tables import LedgerLine
from gateway.money import MICROS_PER_USD
from gateway.store.base import DAY_SECONDS
from gateway.store.ledger_totals import EMPTY_BALANCE, BudgetBalance, sum_balances
from gateway.store.statistics import Backlog, LifetimeTotal, StoreStatistics
from gateway.task_supervisor import SupervisedTask
from gateway.telemetry import store_metric_table as table
from gateway.telemetry.metric_families import Samples
from gateway.telemetry.metric_row import MetricRow
from gateway.telemetry.new_series import NewSeries
from gateway.telemetry.team_labels import TeamLabels
from gateway.timeouts_and_intervals import MaintenanceTiming

# Replicas with a series, so that the number of series has a limit.
MAX_REPLICAS = 40
# Budgets with series of their own among those of teams that share a label: the ones of which the least is left.
MAX_FOLDED_BUDGETS = 20
COUNTERS = (*table.BOOKED_BY_TEAM, *table.BOOKED_BY_CELL)
Sums = dict[MetricRow, Counter[tuple[str, ...]]]
CounterSeries = tuple[MetricRow, tuple[str, ...]]
Balances = Mapping[tuple[str, str], BudgetBalance]


class StoreReading(Struct, frozen=True, kw_only=True):
    """The results of one refresh, in the units of the store."""

    lifetime_totals: tuple[LifetimeTotal, ...]
    balances: Balances
    backlog: Backlog
    heartbeats: Mapping[str, float]


class TeamBudget(Struct, frozen=True):
    """A team's budget for this day, week, month or its lifetime, in micro-USD."""

    team: str
    window_name: str
    limit: int
    spent: int
    left: int

    @property
    def labels(self) -> tuple[str, str]:
        return self.team, self.window_name

    @property
    def share_left(self) -> float:
        """A limit of 0 is never nearly spent."""
        return self.left / self.limit if self.limit else 1.0


class StoreMetricReader:
    """Reads the store in `run`, and returns at each scrape what it read last.

    `readers`: for each metric the function that returns its series. There are none after `store_metric_max_age_seconds`
    without a reading: absent values are better than wrong ones. `on_totals` is called with the totals of each reading.
    """

    def __init__(
        self,
        statistics: StoreStatistics,
        team_labels: TeamLabels,
        wall_clock: Callable[[], float],
        monotonic: Callable[[], float],
        timing: MaintenanceTiming,
    ) -> None:
        self.on_totals: Callable[[tuple[LifetimeTotal, ...]], None] | None = None
        self._statistics, self._team_labels, self._timing = statistics, team_labels, timing
        self._wall_clock, self._monotonic = wall_clock, monotonic
        self._samples: Mapping[MetricRow, Samples] = {}
        self._previous_totals: tuple[LifetimeTotal, ...] | None = None
        self._counter_series: set[CounterSeries] = set()
        self._new_series: NewSeries[CounterSeries] = NewSeries(monotonic, timing.new_series_zero_seconds)
        self._read_at = monotonic()
        self.readers: Mapping[MetricRow, Callable[[], Samples]] = {
            row: partial(self._get_samples, row)
            for row in (*table.MONEY, *table.STORE_AND_REPLICAS)
            if row.is_from_store
        } | {table.STORE_READING_AGE: lambda: [((), self._monotonic() - self._read_at)]}

    async def run(self, task: SupervisedTask) -> None:
        while True:
            await self.refresh()
            task.record_success()
            await asyncio.sleep(self._timing.store_metric_interval_seconds)

    async def refresh(self) -> None:
        """Reads the store. The age counts from the beginning, since values may change while they are read."""
        begun_at, now = self._monotonic(), self._wall_clock()
        windows = _list_windows(self._team_labels.get_catalogue(), now)
        totals, balances, backlog, heartbeats = await asyncio.gather(
            self._statistics.update_lifetime_totals(),
            self._statistics.list_balances(*windows),
            self._statistics.read_backlog(),
            self._statistics.exchange_heartbeats(),
        )
        if self.on_totals is not None:
            self.on_totals(totals)
        reading = StoreReading(lifetime_totals=totals, balances=balances, backlog=backlog, heartbeats=heartbeats)
        self._team_labels.set_booked_teams(_list_booked_teams(reading))
        self._samples = make_samples(reading, self._team_labels, now)
        self._mark_new_series(totals)
        self._read_at = begun_at

    def _mark_new_series(self, totals: tuple[LifetimeTotal, ...]) -> None:
        """Marks series of counters as new if they have only money that the previous reading did not have. The series of
        the first reading are not new: other processes exported them before. Nor are those whose team has another label
        now, since its money has only moved."""
        added = {(row, labels) for row in COUNTERS for labels, _ in self._samples[row]} - self._counter_series
        if added and self._previous_totals is not None:
            previous = _sum_lifetime_totals(self._previous_totals, self._team_labels)
            for series in added - {(row, labels) for row, values in previous.items() for labels in values}:
                self._new_series.add(series)
        self._counter_series |= added
        self._previous_totals = totals

    def _get_samples(self, row: MetricRow) -> Samples:
        if self._monotonic() - self._read_at > self._timing.store_metric_max_age_seconds:
            return ()
        samples, new_series = self._samples.get(row, ()), self._new_series.list_current()
        return [(labels, 0.0 if (row, labels) in new_series else value) for labels, value in samples]


def make_samples(reading: StoreReading, team_labels: TeamLabels, now: float) -> Mapping[MetricRow, Samples]:
    sums = (
        _sum_lifetime_totals(reading.lifetime_totals, team_labels)
        | _sum_holds(reading.balances, team_labels, now)
        | _select_budgets(reading.balances, team_labels, now)
    )
    youngest = sorted(reading.heartbeats.items(), key=lambda heartbeat: heartbeat[1])[:MAX_REPLICAS]
    return {row: _to_samples(row, values) for row, values in sums.items()} | {
        table.OPEN_JOBS: [((state.value,), count) for state, count in reading.backlog.jobs.items()],
        table.OLDEST_OPEN_JOB: [((), reading.backlog.oldest_seconds)],
        table.DUE_LAG: [((), reading.backlog.due_lag_seconds)],
        table.REPLICA_HEARTBEAT: [((replica,), age) for replica, age in youngest],
    }


def _to_samples(row: MetricRow, values: Counter[tuple[str, ...]]) -> Samples:
    """Converts the sums, which are exact, to the unit of the metric. A float has all digits of a sum below four billion
    USD: read back and rounded to the micro-USD, it is the same number."""
    divisor = MICROS_PER_USD if "_usd" in row.name else 1
    return [(labels, value / divisor) for labels, value in values.items()]


def _sum_lifetime_totals(totals: Iterable[LifetimeTotal], team_labels: TeamLabels) -> Sums:
    """Sums money and images twice: by team, and by cell. Both have the same sum."""
    sums: Sums = {row: Counter() for row in COUNTERS}
    for total in totals:
        account = total.account
        if account.line is LedgerLine.FAILED:
            # It has no money: igw_attempts_total counts failed orders.
            continue
        cell = account.cell.operation, account.cell.resolution, account.cell.quality
        by_team = team_labels.get_label(account.team), account.seller, account.model
        by_cell = account.seller, account.model, *cell
        for labels, rows in ((by_team, table.BOOKED_BY_TEAM), (by_cell, table.BOOKED_BY_CELL)):
            spend, corrections, images = rows
            sums[spend][*labels, account.line] += total.charged
            if total.corrected:
                sums[corrections][*labels, account.line] += total.corrected
            if account.line is LedgerLine.CAPTURE:
                sums[images][labels] += total.charged_images
    return sums


def _list_booked_teams(reading: StoreReading) -> set[str]:
    return {total.account.team for total in reading.lifetime_totals} | {team for team, _ in reading.balances}


def _sum_holds(balances: Balances, team_labels: TeamLabels, now: float) -> Sums:
    """Sums the holds of teams in this and last month. They contain those of their days."""
    day, month = list_budget_windows(now)
    _, last_month = list_budget_windows(now - int(day[-2:]) * DAY_SECONDS)
    holds = Counter[tuple[str, ...]]()
    for (team, window), balance in balances.items():
        if window in (month, last_month):
            holds[(team_labels.get_label(team),)] += balance.held
    return {table.HOLDS: holds}


def _select_budgets(balances: Balances, team_labels: TeamLabels, now: float) -> Sums:
    """Selects the budgets of teams with a label of their own, and those of the others of which the least is left: so an
    alert names every team whose budget is nearly spent."""
    budgets = list(_list_budgets(balances, team_labels.get_catalogue(), now))
    folded = [budget for budget in budgets if team_labels.get_label(budget.team) != budget.team]
    least_left = sorted(folded, key=lambda budget: budget.share_left)
    hidden = set(least_left[MAX_FOLDED_BUDGETS:])
    shown = [budget for budget in budgets if budget not in hidden]
    return {
        table.BUDGET_LIMIT: Counter({budget.labels: budget.limit for budget in shown}),
        table.BUDGET_SPENT: Counter({budget.labels: budget.spent for budget in shown}),
        table.BUDGET_LEFT: Counter({budget.labels: budget.left for budget in shown}),
    }


def _list_budgets(balances: Balances, catalogue: Catalogue, now: float) -> Iterator[TeamBudget]:
    """Yields the budgets of all teams for the windows of now."""
    for limit in _list_team_limits(catalogue, now):
        balance = sum_balances(balances.get((limit.owner, part), EMPTY_BALANCE) for part in limit.window.parts)
        left = limit.amount - balance.spent - balance.held
        yield TeamBudget(limit.owner, limit.window.kind, limit=limit.amount, spent=balance.spent, left=left)


def _list_team_limits(catalogue: Catalogue, now: float) -> Iterator[BudgetLimit]:
    for team, config in catalogue.teams.items():
        yield from list_limits(team, config.budget.to_limits(), now)


def _list_windows(catalogue: Catalogue, now: float) -> tuple[str, ...]:
    """Lists the days and months of all budgets, and last month, whose jobs may still be open."""
    day, month = list_budget_windows(now)
    _, last_month = list_budget_windows(now - int(day[-2:]) * DAY_SECONDS)
    limits = [
        limit for team, config in catalogue.teams.items() for limit in list_limits(team, config.budget.to_limits(), now)
    ]
    return tuple(dict.fromkeys([day, month, last_month, *(part for limit in limits for part in limit.window.parts)]))
