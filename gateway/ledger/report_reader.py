"""Reads reports and entries of the ledger from a store."""

from collections.abc import Collection, Iterable

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.report import LedgerReport, build_report
from gateway.ledger.report_options import InvalidReportOption, ReportOptions
from gateway.store.base import Store
from gateway.store.ledger_sums import TotalsQuery
from gateway.store.ledger_totals import DAY_LENGTH, format_hour, list_days

MAX_LISTED_ENTRIES = 1_000
IRREGULAR_LINES = tuple(line for line in LedgerLine if line is not LedgerLine.CAPTURE)


class EntryList(Struct, frozen=True):
    """Entries, the newest day first. `has_more`: the period has more than were listed."""

    entries: tuple[LedgerEntry, ...]
    has_more: bool


def parse_lines(texts: Iterable[str]) -> tuple[LedgerLine, ...]:
    """Parses lists of lines, such as `orphan,suspected`. Raises InvalidReportOption."""
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    if unknown := [word for word in words if word not in IRREGULAR_LINES]:
        raise InvalidReportOption("lines", f"'{unknown[0][:20]}' is not one of {', '.join(IRREGULAR_LINES)}")
    return tuple(LedgerLine(word) for word in words)


async def load_report(store: Store, options: ReportOptions, now: float) -> LedgerReport:
    """Raises InvalidReportOption, or StoreUnavailable."""
    query = options.to_query(now)
    return build_report(query, await store.sum_totals(query))


async def list_irregular_entries(
    store: Store,
    options: ReportOptions,
    now: float,
    lines: Collection[LedgerLine] = IRREGULAR_LINES,
    limit: int = MAX_LISTED_ENTRIES,
) -> EntryList:
    """Lists entries of these lines, of which no team pays any. Raises InvalidReportOption, or StoreUnavailable."""
    query = options.to_query(now)
    found: list[LedgerEntry] = []
    for day in reversed(list_days(query.first_period[:DAY_LENGTH], query.last_period[:DAY_LENGTH])):
        entries = await store.list_ledger_entries(day, query.team, is_irregular=True)
        matching = [entry for entry in entries if entry.line in lines and _is_in_period(entry, query)]
        found += sorted(matching, key=lambda entry: (entry.posted_at, entry.job, entry.attempt), reverse=True)
        if len(found) > limit:
            break
    return EntryList(tuple(found[:limit]), len(found) > limit)


def _is_in_period(entry: LedgerEntry, query: TotalsQuery) -> bool:
    """Entries of older versions have no hour: they belong to every hour of their day."""
    if not query.is_hourly or entry.hour is None:
        return True
    return query.first_period <= format_hour(entry.day, entry.hour) <= query.last_period
