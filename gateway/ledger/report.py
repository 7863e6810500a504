"""A report: what each group spent, and what was charged besides. Pure."""

from collections.abc import Iterable

from msgspec import Struct

from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_sums import LineSum, TotalsQuery


class ReportRow(Struct, frozen=True, kw_only=True, gc=False):
    """One group, in micro-USD. `values`: what it has for each dimension.

    `spend`: for delivered images, paid by the team. `orphaned`: charged, not delivered; `suspected`: possibly charged;
    `excess`: charged beyond the hold. `images`: those that were delivered.
    """

    values: tuple[str, ...] = ()
    spend: int = 0
    images: int = 0
    orphaned: int = 0
    suspected: int = 0
    excess: int = 0

    @property
    def price_per_image(self) -> int | None:
        """The mean price of a delivered image, rounded to the micro-USD; None without images."""
        return (2 * self.spend + self.images) // (2 * self.images) if self.images > 0 else None


class LedgerReport(Struct, frozen=True):
    """The rows of a query, in the order of their values, and their total."""

    query: TotalsQuery
    rows: tuple[ReportRow, ...]
    total: ReportRow


def build_report(query: TotalsQuery, sums: Iterable[LineSum]) -> LedgerReport:
    """Builds the rows in the order of the sums. Groups in which everything was reversed are left out."""
    amounts: dict[tuple[str, ...], dict[LedgerLine, LineSum]] = {}
    for line_sum in sums:
        amounts.setdefault(line_sum.values, {})[line_sum.line] = line_sum
    rows = [_build_row(values, lines) for values, lines in amounts.items()]
    rows = [row for row in rows if row.images or row.spend or row.orphaned or row.suspected or row.excess]
    fields = ("spend", "images", "orphaned", "suspected", "excess")
    total = ReportRow(**{name: sum(getattr(row, name) for row in rows) for name in fields})
    return LedgerReport(query, tuple(rows), total)


def _build_row(values: tuple[str, ...], lines: dict[LedgerLine, LineSum]) -> ReportRow:
    def get_amount(line: LedgerLine) -> int:
        return lines[line].amount if line in lines else 0

    return ReportRow(
        values=values,
        spend=get_amount(LedgerLine.CAPTURE),
        images=lines[LedgerLine.CAPTURE].images if LedgerLine.CAPTURE in lines else 0,
        orphaned=get_amount(LedgerLine.ORPHAN),
        suspected=get_amount(LedgerLine.SUSPECTED),
        excess=get_amount(LedgerLine.EXCESS),
    )
