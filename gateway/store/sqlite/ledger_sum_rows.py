"""Sums of ledger totals, grouped by SQLite as far as that is faster than in Python."""

from functools import lru_cache
from sqlite3 import Connection
from typing import Any

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_sums import Dimension, LineSum, SumCollector, TotalsQuery
from gateway.store.ledger_totals import LedgerAccount
from gateway.store.sqlite.ledger_rows import ACCOUNT_DECODER

_ACCOUNT_DIMENSIONS = {Dimension.SELLER, Dimension.MODEL, Dimension.CELL}


def sum_totals(db: Connection, query: TotalsQuery) -> tuple[LineSum, ...]:
    """Sums the totals of the query. Raises ValueError if its periods are invalid or too many."""
    query.list_periods()
    collector = SumCollector(query)
    if _ACCOUNT_DIMENSIONS.isdisjoint(query.dimensions):
        _collect_lines(db, query, collector)
    else:
        _collect_accounts(db, query, collector)
    return collector.list_sums()


def _collect_lines(db: Connection, query: TotalsQuery, collector: SumCollector) -> None:
    """Groups by team, API key and period: the account is needed only for its line, which SQLite reads from its JSON."""
    names = {Dimension.TEAM: "team", Dimension.KEY: "key_id"}
    columns = [names[dimension] for dimension in query.dimensions if dimension in names]
    for period, line, *values, amount, images in _select_sums(db, query, ["account ->> 4", *columns]):
        collector.add(period, values, _decode_line(line), amount, images)


def _collect_accounts(db: Connection, query: TotalsQuery, collector: SumCollector) -> None:
    """Groups by account. Accounts are few, so each is decoded once."""
    values_by_account: dict[tuple[str, str], tuple[list[str], LedgerLine]] = {}
    for period, text, key_id, amount, images in _select_sums(db, query, ["account", "key_id"]):
        found = values_by_account.get((text, key_id))
        if found is None:
            account = _decode_account(text)
            found = collector.list_values(account, key_id), account.line
            values_by_account[text, key_id] = found
        collector.add(period, *found, amount, images)


def _select_sums(db: Connection, query: TotalsQuery, columns: list[str]) -> list[tuple[Any, ...]]:
    """Selects the beginning of the period that is kept apart, the columns, the amount and the number of images."""
    table, period = ("hour_totals", "hour") if query.is_hourly else ("totals", "day")
    # Whole periods are in the order of the primary key, so they need not be sorted.
    is_whole = query.period_length == len(query.first_period)
    beginning = period if is_whole else f"substr({period}, 1, {query.period_length})" if query.period_length else "''"
    # Only names of this module are part of the statement.
    statement = (
        f"SELECT {beginning}, {', '.join(columns)}, sum(amount), sum(images) FROM {table} "  # noqa: S608
        f"WHERE {period} BETWEEN ? AND ? AND (?3 IS NULL OR team = ?3) "
        f"GROUP BY {', '.join(str(number + 1) for number in range(len(columns) + 1))}"
    )
    return db.execute(statement, (query.first_period, query.last_period, query.team)).fetchall()


@lru_cache(maxsize=65_536)
def _decode_account(text: str) -> LedgerAccount:
    return ACCOUNT_DECODER.decode(text)


@lru_cache(maxsize=16)
def _decode_line(text: str) -> LedgerLine:
    return LedgerLine(text)
