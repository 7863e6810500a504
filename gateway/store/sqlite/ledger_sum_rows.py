"""Sums of ledger totals, grouped by SQLite: its rows are ten times as many as the groups of most reports."""

from sqlite3 import Connection

import msgspec

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_sums import Dimension, LineSum, TotalsQuery, format_cell
from gateway.store.ledger_totals import DAY_LENGTH
from providers.orders import Cell

_CELL_DECODER = msgspec.json.Decoder(Cell)
# An account is stored as a JSON array.
_EXPRESSIONS = {
    Dimension.TEAM: "team",
    Dimension.KEY: "key_id",
    Dimension.SELLER: "account ->> 1",
    Dimension.MODEL: "account ->> 2",
    Dimension.CELL: "account ->> 3",
    Dimension.DAY: f"substr({{period}}, 1, {DAY_LENGTH})",
    Dimension.HOUR: "{period}",
}


def sum_totals(db: Connection, query: TotalsQuery) -> tuple[LineSum, ...]:
    """Sums the totals of the query. Raises ValueError if its periods are invalid or too many."""
    query.list_periods()
    table, period = ("hour_totals", "hour") if query.is_hourly else ("totals", "day")
    columns = [_EXPRESSIONS[dimension].format(period=period) for dimension in query.dimensions] + ["account ->> 4"]
    # Only names of this module are part of the statement.
    statement = (
        f"SELECT {', '.join(columns)}, sum(amount), sum(images) FROM {table} "  # noqa: S608
        f"WHERE {period} BETWEEN ? AND ? AND (?3 IS NULL OR team = ?3) "
        f"GROUP BY {', '.join(str(number + 1) for number in range(len(columns)))}"
    )
    rows = db.execute(statement, (query.first_period, query.last_period, query.team)).fetchall()
    cell_index = query.dimensions.index(Dimension.CELL) if Dimension.CELL in query.dimensions else None
    return tuple(sorted(_decode_row(row, cell_index) for row in rows))


def _decode_row(row: tuple[str | int, ...], cell_index: int | None) -> LineSum:
    *texts, line, amount, images = row
    values = [str(text) for text in texts]
    if cell_index is not None:
        values[cell_index] = format_cell(_CELL_DECODER.decode(values[cell_index]))
    return LineSum(tuple(values), LedgerLine(str(line)), int(amount), int(images))
