"""A report of sums: one row for each group, with what teams paid apart from what they did not."""

import msgspec

from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.report import ReportRow, build_report
from gateway.ledger.report_json import serialize_report
from gateway.store.ledger_sums import Dimension, LineSum, TotalsQuery

QUERY = TotalsQuery(first_period="2026-11-01", last_period="2026-11-28", dimensions=(Dimension.TEAM, Dimension.KEY))
SUMS = (
    LineSum(("acme", "abcdefghij"), LedgerLine.CAPTURE, 80_000, 2),
    LineSum(("acme", "abcdefghij"), LedgerLine.ORPHAN, 40_000, 1),
    LineSum(("acme", "abcdefghij"), LedgerLine.SUSPECTED, 0, 0),
    LineSum(("acme", "abcdefghij"), LedgerLine.EXCESS, 7, 2),
    LineSum(("acme", "reversed"), LedgerLine.SUSPECTED, 0, 0),
    LineSum(("design", ""), LedgerLine.CAPTURE, 100_000, 3),
)


def test_lines_of_a_group_are_columns_of_its_row() -> None:
    report = build_report(QUERY, SUMS)
    assert report.rows == (
        ReportRow(values=("acme", "abcdefghij"), spend=80_000, images=2, orphaned=40_000, excess=7),
        ReportRow(values=("design", ""), spend=100_000, images=3),
    )
    assert report.total == ReportRow(spend=180_000, images=5, orphaned=40_000, excess=7)


def test_price_of_an_image_is_rounded_to_the_micro_dollar() -> None:
    assert ReportRow(spend=100_000, images=3).price_per_image == 33_333
    assert ReportRow(spend=200_000, images=3).price_per_image == 66_667
    assert ReportRow(orphaned=1).price_per_image is None


def test_amounts_are_exact_in_json() -> None:
    sums = (LineSum(("acme", ""), LedgerLine.CAPTURE, 9_007_199_254_740_993, 1),)
    text = msgspec.json.encode(serialize_report(build_report(QUERY, sums)))
    assert b'"spend":9007199254.740993,' in text
    (row,) = msgspec.json.decode(text)["data"]
    assert (row["team"], row["key"], row["images"]) == ("acme", None, 1)
