"""A reader of the store's metrics over fake statistics, with a clock that tests move."""

import asyncio
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.config.schema import TeamConfig
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_totals import BudgetBalance, LedgerAccount
from gateway.store.statistics import Backlog, LifetimeTotal, OpenState
from gateway.telemetry.metric_row import MetricRow
from gateway.telemetry.metric_table import METRIC_TABLE
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.store_metrics import StoreMetricReader
from gateway.telemetry.team_labels import TeamLabels
from gateway.timeouts_and_intervals import MaintenanceTiming
from providers.orders import Cell, Operation
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory

TIMING = MaintenanceTiming()
CELLS = [Cell(operation, "1k", quality) for operation in Operation for quality in ("low", "high")]


class FakeStatistics:
    """Returns what the test sets."""

    def __init__(self) -> None:
        self.totals: tuple[LifetimeTotal, ...] = ()
        self.balances: dict[tuple[str, str], BudgetBalance] = {}
        self.backlog = Backlog(jobs=dict.fromkeys(OpenState, 0), oldest_seconds=0.0, due_lag_seconds=0.0)
        self.heartbeats: dict[str, float] = {}
        self.windows: tuple[str, ...] = ()
        self.error: Exception | None = None

    async def update_lifetime_totals(self) -> tuple[LifetimeTotal, ...]:
        if self.error is not None:
            raise self.error
        return self.totals

    async def list_balances(self, *windows: str) -> dict[tuple[str, str], BudgetBalance]:
        self.windows = windows
        return {key: balance for key, balance in self.balances.items() if key[1] in windows}

    async def read_backlog(self) -> Backlog:
        return self.backlog

    async def exchange_heartbeats(self) -> dict[str, float]:
        return self.heartbeats


class ReaderHarness:
    """A reader of fake statistics, with its clock and configured teams, and the metrics that render it. Replicas of one
    store have the same statistics and teams."""

    def __init__(self, statistics: FakeStatistics | None = None, teams: dict[str, TeamConfig] | None = None) -> None:
        self.statistics, self.clock = statistics or FakeStatistics(), ManualClock(job_factory.NOON)
        self.teams: dict[str, TeamConfig] = {} if teams is None else teams
        catalogue: Any = SimpleNamespace(teams=self.teams)
        self.team_labels = TeamLabels(lambda: catalogue)
        self.reader = StoreMetricReader(self.statistics, self.team_labels, self.clock, self.clock, TIMING)
        self.metrics = Metrics(self.team_labels.get_label, self.clock, TIMING.new_series_zero_seconds)
        self.metrics.read_samples(self.reader.readers)

    def refresh(self) -> None:
        asyncio.run(self.reader.refresh())

    def read_samples(self, row: MetricRow) -> dict[tuple[str, ...], float]:
        """Parses the samples of one metric from the rendered text."""
        families = text_string_to_metric_families(self.metrics.render()[0].decode())
        (family,) = [family for family in families if family.name == row.name.removesuffix("_total")]
        return {tuple(sample.labels[name] for name in row.labels): sample.value for sample in family.samples}

    def count_series(self) -> int:
        families = text_string_to_metric_families(self.metrics.render()[0].decode())
        names = {row.name.removesuffix("_total") for row in METRIC_TABLE if row.is_from_store}
        return sum(len(family.samples) for family in families if family.name in names)


def make_total(team: str = "a", line: LedgerLine = LedgerLine.CAPTURE, **numbers: Any) -> LifetimeTotal:
    account = LedgerAccount(
        team=team, seller=numbers.pop("seller", "s"), model="m", cell=numbers.pop("cell", CELLS[0]), line=line
    )
    return LifetimeTotal(account=account, **numbers)
