"""Plans and coverage for people at a terminal, and plans as JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.catalogue import Catalogue
from gateway.config.blocks import RuleConfig, When
from gateway.config.judging import CONDITIONS, wanted_values
from gateway.coverage import Covered
from gateway.money import format_usd
from gateway.routing.plan import Plan, Ranked
from providers.orders import Operation

NUMBERS = {"quote", "per image", "orders", "expected", "price"}
GAP = (0, 2, 0, 0)


def as_json(catalogue: Catalogue, plan: Plan) -> dict[str, Any]:
    """The plan as data: the same object answers a dry run and stands beside a job."""
    return {
        "ranked": [_ranked(ranked) for ranked in plan.ranked],
        "excluded": [{"seller": one.seller, "reasons": list(one.reasons)} for one in plan.excluded],
        "policy": plan.policy,
        "rule": rule_shown(catalogue, plan),
        "config": plan.config,
    }


def _ranked(ranked: Ranked) -> dict[str, Any]:
    offer = ranked.fit.offer
    return {
        "seller": offer.seller.name,
        "adapter": offer.seller.adapter.name,
        "quote_micros": ranked.quote.total,
        "quote_usd": format_usd(ranked.quote.total),
        "ceiling_micros": ranked.quote.hold,
        "ceiling_usd": format_usd(ranked.quote.hold),
        "seconds": ranked.seconds,
        "fidelity": fidelity(ranked),
        "substitutions": [substitution.name for substitution in ranked.fit.substitutions],
        "signals": msgspec.to_builtins(ranked.signals),
        "reasons": [*ranked.reasons, *(f"{one.name}: {one.detail}" for one in ranked.fit.substitutions)],
    }


def fidelity(ranked: Ranked) -> str:
    return "exact" if ranked.fit.exact else "near"


def rule_shown(catalogue: Catalogue, plan: Plan) -> str | None:
    """Which rule chose the policy, in words; None if the caller named the policy himself."""
    if plan.rule is None:
        return None
    if plan.rule == 0:
        return "default"
    rule: RuleConfig = catalogue.policies.rules[plan.rule - 1]
    return f"rule {plan.rule}: {_conditions(rule.when)}"


def _conditions(when: When) -> str:
    named = {name: wanted_values(when, name) for name in CONDITIONS}
    shown = [f"{name} {'/'.join(map(str, values))}" for name, values in named.items() if values]
    shown += [f"{name}={value}" for name, value in when.metadata.items()]
    return ", ".join(shown) or "always"


def print_plan(console: Console, catalogue: Catalogue, plan: Plan) -> None:
    chosen = rule_shown(catalogue, plan) or "asked for by name"
    console.print(Text.assemble("policy ", (plan.policy, "bold"), f" ({chosen}), config {plan.config}"))
    if plan.ranked:
        console.print(_plan_table(plan))
        console.print()
    else:
        console.print(Text("nobody can take this request", style="bold red"))
    console.print(_notes(plan))


def _plan_table(plan: Plan) -> Table:
    table = _table("bold", ("", "seller", "quote", "per image", "orders", "expected", "fidelity"))
    for place, ranked in enumerate(plan.ranked, 1):
        table.add_row(
            str(place),
            ranked.fit.offer.seller.name,
            f"${format_usd(ranked.quote.total)}",
            f"${format_usd(ranked.quote.per_image)}",
            str(ranked.quote.orders),
            f"{ranked.seconds:g} s",
            Text(fidelity(ranked), style="green" if ranked.fit.exact else "yellow"),
            style="bold" if place == 1 else None,
        )
    return table


def _notes(plan: Plan) -> Table:
    """Why everybody stands where he does, on lines of their own: they are too long for a column of numbers."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=GAP)
    for place, ranked in enumerate(plan.ranked, 1):
        # Whoever is not first is after the one before him by the same rank: only the first needs to be told.
        reasons = ranked.reasons if place == 1 else ranked.reasons[1:]
        told = (*reasons, *(one.detail for one in ranked.fit.substitutions))
        _add_notes(table, str(place), ranked.fit.offer.seller.name, told)
    for excluded in plan.excluded:
        _add_notes(table, "out", excluded.seller, excluded.reasons, "yellow")
    return table


def _add_notes(table: Table, place: str, seller: str, notes: Sequence[str], style: str = "") -> None:
    for number, note in enumerate(notes):
        table.add_row(place if number == 0 else "", seller if number == 0 else "", Text(note), style=style)


def _table(header_style: str, headings: Sequence[str], title: str | None = None) -> Table:
    told = Text(title, style="bold") if title else None
    table = Table(title=told, title_justify="left", box=None, header_style=header_style, pad_edge=False, padding=GAP)
    for heading in headings:
        # On a narrow terminal words may be broken, but never cut: two sellers must not look alike.
        table.add_column(heading, justify="right" if heading in NUMBERS else "left", overflow="fold")
    return table


def coverage_shown(catalogue: Catalogue, covered: Sequence[Covered]) -> RenderableType:
    """Who wins each cell and at what price, and who comes second; first by the default policy, then by each rule."""
    tables: list[RenderableType] = []
    groups: dict[tuple[str, int | None, Operation], list[Covered]] = {}
    for one in covered:
        groups.setdefault((one.model, one.plan.rule, one.cell.operation), []).append(one)
    for (model, _, operation), cells in groups.items():
        chosen = f"policy {cells[0].plan.policy} ({rule_shown(catalogue, cells[0].plan)})"
        tables += [_coverage_table(f"{model}, {operation}, one image at {cells[0].shape}, {chosen}", cells), ""]
    return Group(*tables, Text("~ comes near: not exactly what is asked, or not known to be\n", style="dim"))


def _coverage_table(title: str, cells: Sequence[Covered]) -> Table:
    table = _table("dim", ("resolution", "quality", "winner", "price", "second", "price"), title)
    usual = cells[0].shape
    for one in cells:
        resolution = one.cell.resolution if one.shape == usual else f"{one.cell.resolution} {one.shape}"
        table.add_row(resolution, one.cell.quality, *_place(one.winner), *_place(one.second))
    return table


def _place(ranked: Ranked | None) -> tuple[Text, Text]:
    if ranked is None:
        return Text("nobody", style="red"), Text("–", style="red")
    near = "" if ranked.fit.exact else " ~"
    name = Text(ranked.fit.offer.seller.name + near, style="" if ranked.fit.exact else "yellow")
    return name, Text(f"${format_usd(ranked.quote.total)}")
