"""Plans and coverage for people at a terminal, and plans as JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.catalogue import Catalogue
from gateway.cell_coverage import CellCoverage
from gateway.config.schema import CONDITION_NAMES, RuleConditions, RuleConfig
from gateway.money import format_usd
from gateway.routing.plan import Plan, RankedOffer
from providers.orders import Operation

NUMBER_COLUMNS = {"quote", "per image", "orders", "expected", "price"}
CELL_PADDING = (0, 2, 0, 0)


def plan_to_json(catalogue: Catalogue, plan: Plan) -> dict[str, Any]:
    """The plan as data: the same object answers a dry run and stands beside a job."""
    return {
        "ranked": [_ranked_offer_to_json(ranked) for ranked in plan.ranked],
        "excluded": [{"seller": excluded.seller, "reasons": list(excluded.reasons)} for excluded in plan.excluded],
        "policy": plan.policy,
        "rule": format_rule(catalogue, plan),
        "config": plan.config_hash,
    }


def _ranked_offer_to_json(ranked: RankedOffer) -> dict[str, Any]:
    offer = ranked.fit.offer
    return {
        "seller": offer.seller.name,
        "adapter": offer.seller.adapter.name,
        "quote_micros": ranked.quote.total,
        "quote_usd": format_usd(ranked.quote.total),
        "ceiling_micros": ranked.quote.ceiling,
        "ceiling_usd": format_usd(ranked.quote.ceiling),
        "seconds": ranked.expected_seconds,
        "fidelity": get_fidelity(ranked),
        "substitutions": [substitution.name for substitution in ranked.fit.substitutions],
        "signals": msgspec.to_builtins(ranked.signals),
        "reasons": [
            *ranked.reasons,
            *(f"{substitution.name}: {substitution.detail}" for substitution in ranked.fit.substitutions),
        ],
    }


def get_fidelity(ranked: RankedOffer) -> str:
    return "exact" if ranked.fit.is_exact else "near"


def format_rule(catalogue: Catalogue, plan: Plan) -> str | None:
    """Which rule chose the policy, in words; None if the caller named the policy himself."""
    if plan.rule_number is None:
        return None
    if plan.rule_number == 0:
        return "default"
    rule: RuleConfig = catalogue.policies.rules[plan.rule_number - 1]
    return f"rule {plan.rule_number}: {_format_conditions(rule.when)}"


def _format_conditions(conditions: RuleConditions) -> str:
    values_by_name = {name: conditions.get_values(name) for name in CONDITION_NAMES}
    parts = [f"{name} {'/'.join(map(str, values))}" for name, values in values_by_name.items() if values]
    parts += [f"{name}={value}" for name, value in conditions.metadata.items()]
    return ", ".join(parts) or "always"


def print_plan(console: Console, catalogue: Catalogue, plan: Plan) -> None:
    rule = format_rule(catalogue, plan) or "asked for by name"
    console.print(Text.assemble("policy ", (plan.policy, "bold"), f" ({rule}), config {plan.config_hash}"))
    if plan.ranked:
        console.print(_make_plan_table(plan))
        console.print()
    else:
        console.print(Text("nobody can take this request", style="bold red"))
    console.print(_make_reasons_table(plan))


def _make_plan_table(plan: Plan) -> Table:
    table = _make_table("bold", ("", "seller", "quote", "per image", "orders", "expected", "fidelity"))
    for position, ranked in enumerate(plan.ranked, 1):
        table.add_row(
            str(position),
            ranked.fit.offer.seller.name,
            f"${format_usd(ranked.quote.total)}",
            f"${format_usd(ranked.quote.per_image)}",
            str(ranked.quote.orders),
            f"{ranked.expected_seconds:g} s",
            Text(get_fidelity(ranked), style="green" if ranked.fit.is_exact else "yellow"),
            style="bold" if position == 1 else None,
        )
    return table


def _make_reasons_table(plan: Plan) -> Table:
    """Why everybody stands where he does, on lines of their own: they are too long for a column of numbers."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=CELL_PADDING)
    for position, ranked in enumerate(plan.ranked, 1):
        # Whoever is not first is after the one before him by the same rank: only the first needs to be told.
        reasons = ranked.reasons if position == 1 else ranked.reasons[1:]
        notes = (*reasons, *(substitution.detail for substitution in ranked.fit.substitutions))
        _add_reasons(table, str(position), ranked.fit.offer.seller.name, notes)
    for excluded in plan.excluded:
        _add_reasons(table, "out", excluded.seller, excluded.reasons, "yellow")
    return table


def _add_reasons(table: Table, position: str, seller: str, notes: Sequence[str], style: str = "") -> None:
    for number, note in enumerate(notes):
        table.add_row(position if number == 0 else "", seller if number == 0 else "", Text(note), style=style)


def _make_table(header_style: str, headings: Sequence[str], title: str | None = None) -> Table:
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
        # On a narrow terminal words may be broken, but never cut: two sellers must not look alike.
        table.add_column(heading, justify="right" if heading in NUMBER_COLUMNS else "left", overflow="fold")
    return table


def render_coverage(catalogue: Catalogue, coverage: Sequence[CellCoverage]) -> RenderableType:
    """Who wins each cell and at what price, and who comes second; first by the default policy, then by each rule."""
    tables: list[RenderableType] = []
    groups: dict[tuple[str, int | None, Operation], list[CellCoverage]] = {}
    for cell_coverage in coverage:
        groups.setdefault(
            (cell_coverage.model, cell_coverage.plan.rule_number, cell_coverage.cell.operation), []
        ).append(cell_coverage)
    for (model, _, operation), cells in groups.items():
        policy = f"policy {cells[0].plan.policy} ({format_rule(catalogue, cells[0].plan)})"
        tables += [_make_coverage_table(f"{model}, {operation}, one image at {cells[0].shape}, {policy}", cells), ""]
    return Group(*tables, Text("~ comes near: not exactly what is asked, or not known to be\n", style="dim"))


def _make_coverage_table(title: str, cells: Sequence[CellCoverage]) -> Table:
    table = _make_table("dim", ("resolution", "quality", "winner", "price", "second", "price"), title)
    usual_shape = cells[0].shape
    for cell_coverage in cells:
        resolution = (
            cell_coverage.cell.resolution
            if cell_coverage.shape == usual_shape
            else f"{cell_coverage.cell.resolution} {cell_coverage.shape}"
        )
        table.add_row(
            resolution,
            cell_coverage.cell.quality,
            *_format_seller_and_price(cell_coverage.winner),
            *_format_seller_and_price(cell_coverage.runner_up),
        )
    return table


def _format_seller_and_price(ranked: RankedOffer | None) -> tuple[Text, Text]:
    if ranked is None:
        return Text("nobody", style="red"), Text("–", style="red")
    near = "" if ranked.fit.is_exact else " ~"
    name = Text(ranked.fit.offer.seller.name + near, style="" if ranked.fit.is_exact else "yellow")
    return name, Text(f"${format_usd(ranked.quote.total)}")
