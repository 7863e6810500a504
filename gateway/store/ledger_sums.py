"""Sums of ledger totals by team, API key, seller, model, cell, day or hour."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_totals import DAY_LENGTH, LedgerAccount, LedgerTotal, list_days
from providers.orders import Cell

HOUR_LENGTH = len("2026-11-28T09")
MAX_HOURS = 31 * 24


class Dimension(StrEnum):
    """By what a report groups the ledger."""

    TEAM = "team"
    KEY = "key"
    SELLER = "seller"
    MODEL = "model"
    CELL = "cell"
    DAY = "day"
    HOUR = "hour"


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


class LineSum(Struct, frozen=True, order=True):
    """The sum of one ledger line in one group. `values`: what the group has for each dimension of the query."""

    values: tuple[str, ...]
    line: LedgerLine
    amount: int
    images: int


class SumCollector:
    """Adds totals up to the groups of a query."""

    def __init__(self, query: TotalsQuery) -> None:
        self._query = query
        self._sums: dict[tuple[tuple[str, ...], LedgerLine], list[int]] = {}

    def make_group(self, period: str, account: LedgerAccount, key_id: str) -> list[int]:
        """Returns the amount and the number of images of a group, to be added to."""
        values = tuple(
            [_get_value(dimension, period, account, key_id) for dimension in self._query.dimensions],
        )
        return self._sums.setdefault((values, account.line), [0, 0])

    def add_totals(self, totals: Iterable[LedgerTotal]) -> None:
        """Adds those of the team. Their periods must be those of the query."""
        for total in totals:
            if self._query.team in (None, total.account.team):
                group = self.make_group(total.period, total.account, total.key_id)
                group[0] += total.amount
                group[1] += total.images

    def list_sums(self) -> tuple[LineSum, ...]:
        return tuple(
            sorted(LineSum(values, line, amount, images) for (values, line), (amount, images) in self._sums.items())
        )


def format_cell(cell: Cell) -> str:
    return f"{cell.operation}/{cell.resolution}/{cell.quality}"


def _get_value(dimension: Dimension, period: str, account: LedgerAccount, key_id: str) -> str:
    match dimension:
        case Dimension.TEAM:
            return account.team
        case Dimension.KEY:
            return key_id
        case Dimension.SELLER:
            return account.seller
        case Dimension.MODEL:
            return account.model
        case Dimension.CELL:
            return format_cell(account.cell)
        case Dimension.DAY:
            return period[:DAY_LENGTH]
        case Dimension.HOUR:
            return period


def _parse_hour(period: str) -> datetime:
    return datetime.strptime(period, "%Y-%m-%dT%H")  # noqa: DTZ007  all periods are in UTC
