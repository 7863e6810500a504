"""The JSON of reports and of ledger entries, for the API and the command line. Pure."""

from typing import Any

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.ledger.report import LedgerReport, ReportRow
from gateway.ledger.report_reader import EntryList
from gateway.money import format_usd
from gateway.store.ledger_sums import Dimension, format_cell


def serialize_report(report: LedgerReport) -> dict[str, Any]:
    dimensions = report.query.dimensions
    return {
        "object": "usage",
        "since": report.query.first_period,
        "until": report.query.last_period,
        "team": report.query.team,
        "group_by": list(dimensions),
        "data": [_serialize_row(row, dimensions) for row in report.rows],
        "total": _serialize_row(report.total, ()),
    }


def serialize_entry(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "object": "ledger_entry",
        "line": entry.line,
        "amount": _to_usd(entry.amount),
        "images": entry.images,
        "job": entry.job or None,
        "attempt": entry.attempt,
        "reason": entry.reason or None,
        "team": entry.team,
        "key": entry.key_id or None,
        "seller": entry.seller,
        "model": entry.model,
        "cell": format_cell(entry.cell),
        "ticket": entry.ticket or None,
        "day": entry.day,
        "hour": entry.hour,
        "posted_at": int(entry.posted_at),
    }


def serialize_entry_list(listed: EntryList) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [serialize_entry(entry) for entry in listed.entries],
        "has_more": listed.has_more,
    }


def _serialize_row(row: ReportRow, dimensions: tuple[Dimension, ...]) -> dict[str, Any]:
    groups = {dimension.value: value or None for dimension, value in zip(dimensions, row.values, strict=True)}
    price = row.price_per_image
    return {
        **groups,
        "spend": _to_usd(row.spend),
        "images": row.images,
        "price_per_image": None if price is None else _to_usd(price),
        "orphaned": _to_usd(row.orphaned),
        "suspected": _to_usd(row.suspected),
        "excess": _to_usd(row.excess),
    }


def _to_usd(amount: int) -> msgspec.Raw:
    """Writes USD exactly: no float holds money."""
    return msgspec.Raw(format_usd(amount).encode())
