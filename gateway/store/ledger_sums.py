"""Sums of ledger totals by team, API key, seller, model, cell, day or hour."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_totals import DAY_LENGTH, LedgerAccount, LedgerTotal, list_days
from providers.orders import Cell

HOUR_LENGTH = len("2026-11-28T09")
MAX_HOURS = 7 * 24


class Dimension(StrEnum):
    """By what a report groups the ledger."""

    TEAM = "team"
    KEY = "key"
    SELLER = "seller"
    MODEL = "model"
    CELL = "cell"
    DAY = "day"
    HOUR = "hour"


PERIOD_DIMENSIONS = (Dimension.DAY, Dimension.HOUR)


class TotalsQuery(Struct, frozen=True, kw_only=True):
    """Which totals are summed, and what is kept apart. `first_period`, `last_period`: two days or two hours, both
    included. `team`: None for all teams."""

    first_period: str
    last_period: str
    team: str | None = None
    dimensions: tuple[Dimension, ...] = ()

    @property
    def is_hourly(self) -> bool:
        return len(self.first_period) > DAY_LENGTH

    @property
    def period_length(self) -> int:
        """How much of a period is kept apart: the hour, the day, or nothing."""
        if Dimension.HOUR in self.dimensions:
            return HOUR_LENGTH
        return DAY_LENGTH if Dimension.DAY in self.dimensions else 0

    def list_periods(self) -> list[str]:
        """Lists the periods. Raises ValueError if they are invalid or too many."""
        if not self.is_hourly:
            return list_days(self.first_period, self.last_period)
        start, end = (_parse_hour(period) for period in (self.first_period, self.last_period))
        count = (end - start) // timedelta(hours=1) + 1
        if count > MAX_HOURS:
            raise ValueError(f"Invalid period: {self.first_period} to {self.last_period} is longer than {MAX_HOURS} h.")
        return [(start + timedelta(hours=offset)).isoformat()[:HOUR_LENGTH] for offset in range(count)]


class LineSum(Struct, frozen=True, order=True, gc=False):
    """The sum of one ledger line in one group. `values`: what the group has for each dimension of the query."""

    values: tuple[str, ...]
    line: LedgerLine
    amount: int
    images: int


class SumCollector:
    """Adds totals up to the groups of a query."""

    def __init__(self, query: TotalsQuery) -> None:
        self._dimensions, self._team = query.dimensions, query.team
        self._period_lengths = [
            (index, DAY_LENGTH if dimension is Dimension.DAY else HOUR_LENGTH)
            for index, dimension in enumerate(query.dimensions)
            if dimension in PERIOD_DIMENSIONS
        ]
        self._sums: dict[tuple[tuple[str, ...], LedgerLine], list[int]] = {}

    def add(self, period: str, values: Sequence[str], line: LedgerLine, amount: int, images: int) -> None:
        """Adds to a group. `values`: those of the dimensions besides the day and the hour."""
        if self._period_lengths:
            values = list(values)
            for index, length in self._period_lengths:
                values.insert(index, period[:length])
        group = self._sums.setdefault((tuple(values), line), [0, 0])
        group[0] += amount
        group[1] += images

    def list_values(self, account: LedgerAccount, key_id: str) -> list[str]:
        """Lists the values of the dimensions besides the day and the hour."""
        values = {
            Dimension.TEAM: account.team,
            Dimension.KEY: key_id,
            Dimension.SELLER: account.seller,
            Dimension.MODEL: account.model,
            Dimension.CELL: format_cell(account.cell),
        }
        return [values[dimension] for dimension in self._dimensions if dimension in values]

    def add_totals(self, totals: Iterable[LedgerTotal]) -> None:
        """Adds those of the team. Their periods must be those of the query."""
        for total in totals:
            if self._team in (None, total.account.team):
                values = self.list_values(total.account, total.key_id)
                self.add(total.period, values, total.account.line, total.amount, total.images)

    def list_sums(self) -> tuple[LineSum, ...]:
        """Lists the sums in the order of their values."""
        return tuple([LineSum(*key, *self._sums[key]) for key in sorted(self._sums)])


def format_cell(cell: Cell) -> str:
    return f"{cell.operation}/{cell.resolution}/{cell.quality}"


def _parse_hour(period: str) -> datetime:
    return datetime.strptime(period, "%Y-%m-%dT%H")  # noqa: DTZ007  all periods are in UTC
