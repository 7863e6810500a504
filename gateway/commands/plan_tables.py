"""Tables of plans and cell winners for the terminal."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.catalogue import Catalogue
from gateway.commands.winning_sellers import CellWinners
from gateway.money import format_usd
from gateway.routing.plan import Plan, RankedOffer
from gateway.routing.plan_json import format_rule
from providers.orders import Operation

NUMBER_COLUMNS = {"quote", "per image", "ceiling", "orders", "p50", "p90", "expected", "price", "seconds", "cost"}
# Columns whose text may continue on the next line. A name or an amount is never split.
TEXT_COLUMNS = {"the seller said"}
PLAN_COLUMNS = ("", "seller", "quote", "per image", "orders", "expected", "fidelity")
MIN_TEXT_WIDTH = 16
CELL_PADDING = (0, 2, 0, 0)


def print_plan(console: Console, catalogue: Catalogue, plan: Plan) -> None:
    rule = format_rule(catalogue, plan) or "chosen by name"
    console.print(Text.assemble("policy ", (plan.policy, "bold"), f" ({rule}), config {plan.config_hash}"))
    if plan.ranked:
        print_rows(console, PLAN_COLUMNS, [_to_row(position, ranked) for position, ranked in enumerate(plan.ranked, 1)])
        if plan.split_counts:
            console.print(Text(format_split([ranked.candidate.seller for ranked in plan.ranked], plan.split_counts)))
        console.print()
    else:
        console.print(Text("no seller can fulfil this request", style="bold red"))
    console.print(_make_reasons_table(plan))
    for warning in plan.warnings:
        console.print(Text(warning, style="yellow"))


def format_split(sellers: Sequence[str], split_counts: Sequence[int]) -> str:
    """Describes how the images of a request are split over the first sellers."""
    parts = [f"{count} at {seller}" for seller, count in zip(sellers, split_counts, strict=False)]
    return f"split: {', '.join(parts)}, at the same time"


def _to_row(position: int, ranked: RankedOffer) -> tuple[str | Text, ...]:
    return (
        str(position),
        ranked.fit.offer.seller.name,
        f"${format_usd(ranked.quote.total)}",
        f"${format_usd(ranked.quote.per_image)}",
        str(ranked.quote.orders),
        f"{ranked.expected_seconds:g} s",
        Text(ranked.fidelity, style="green" if ranked.fit.is_exact else "yellow"),
    )


def _make_reasons_table(plan: Plan) -> Table:
    """Makes the table of each seller's reasons, which are too long for a column of the other table."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=CELL_PADDING)
    for position, ranked in enumerate(plan.ranked, 1):
        # All sellers share the first ranking reason, so only the first seller's is printed.
        reasons = ranked.reasons if position == 1 else ranked.reasons[1:]
        notes = (*reasons, *(substitution.detail for substitution in ranked.fit.substitutions))
        _add_reasons(table, str(position), ranked.fit.offer.seller.name, notes)
    for excluded in plan.excluded:
        _add_reasons(table, "out", excluded.seller, excluded.reasons, "yellow")
    return table


def _add_reasons(table: Table, position: str, seller: str, notes: Sequence[str], style: str = "") -> None:
    for number, note in enumerate(notes):
        table.add_row(position if number == 0 else "", seller if number == 0 else "", Text(note), style=style)


def print_rows(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Prints a table of ranked rows, the first in bold; in a terminal too narrow for it, a few lines for each row."""
    table = make_table("bold", headings)
    for number, row in enumerate(rows):
        table.add_row(*row, style="" if number else "bold")
    if _measure_width(headings, rows) <= console.width:
        return console.print(table)
    for number, row in enumerate(rows):
        console.print(_join_cells(headings, row), style="" if number else "bold")


def _measure_width(headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> int:
    """Measures the narrowest table that splits no name and no amount."""
    columns = zip(headings, *rows, strict=True)
    widths = [max(cell_len(str(cell)) for cell in column) for column in columns]
    limits = (
        MIN_TEXT_WIDTH if heading in TEXT_COLUMNS else width for heading, width in zip(headings, widths, strict=True)
    )
    return sum(map(min, widths, limits)) + CELL_PADDING[1] * len(headings)


def _join_cells(headings: Sequence[str], row: Sequence[str | Text]) -> Text:
    """Joins a row like `1 runapi: quote $0.06, per image $0.06`. Only commas end a line."""
    position, name, *cells = row
    named = zip(headings[2:], cells, strict=True)
    parts = (Text.assemble(f"{heading} ", cell) for heading, cell in named)
    return Text.assemble(position, " ", name, ": ", Text(", ").join(parts))


def make_table(header_style: str, headings: Sequence[str], title: str | None = None) -> Table:
    """Makes an empty table of the command line's style."""
    styled_title = Text(title, style="bold") if title else None
    table = Table(
        title=styled_title,
        title_justify="left",
        box=None,
        header_style=header_style,
        pad_edge=False,
        padding=CELL_PADDING,
    )
    for heading in headings:
        # Fold, never truncate: two sellers' names must stay distinguishable.
        table.add_column(
            heading,
            justify="right" if heading in NUMBER_COLUMNS else "left",
            overflow="fold",
            no_wrap=heading not in TEXT_COLUMNS,
        )
    return table


def render_cell_winners(catalogue: Catalogue, all_winners: Sequence[CellWinners]) -> RenderableType:
    """Renders winner, runner-up and their prices for each cell: by the default policy, then by each rule."""
    tables: list[RenderableType] = []
    groups: dict[tuple[str, int | None, Operation], list[CellWinners]] = {}
    for cell_winners in all_winners:
        groups.setdefault((cell_winners.model, cell_winners.plan.rule_number, cell_winners.cell.operation), []).append(
            cell_winners
        )
    for (model, _, operation), cells in groups.items():
        policy = f"policy {cells[0].plan.policy} ({format_rule(catalogue, cells[0].plan)})"
        tables += [_make_winner_table(f"{model}, {operation}, one image at {cells[0].shape}, {policy}", cells), ""]
    return Group(
        *tables, Text("~ approximate: differs from the request, or is not known to match it exactly\n", style="dim")
    )


def _make_winner_table(title: str, cells: Sequence[CellWinners]) -> Table:
    table = make_table("dim", ("resolution", "quality", "winner", "price", "runner-up", "price"), title)
    usual_shape = cells[0].shape
    for cell_winners in cells:
        resolution = (
            cell_winners.cell.resolution
            if cell_winners.shape == usual_shape
            else f"{cell_winners.cell.resolution} {cell_winners.shape}"
        )
        table.add_row(
            resolution,
            cell_winners.cell.quality,
            *_format_seller_and_price(cell_winners.winner),
            *_format_seller_and_price(cell_winners.runner_up),
        )
    return table


def _format_seller_and_price(ranked: RankedOffer | None) -> tuple[Text, Text]:
    if ranked is None:
        return Text("none", style="red"), Text("–", style="red")
    suffix = "" if ranked.fit.is_exact else " ~"
    name = Text(ranked.fit.offer.seller.name + suffix, style="" if ranked.fit.is_exact else "yellow")
    return name, Text(f"${format_usd(ranked.quote.total)}")
