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
from gateway.coverage import RATIO, Covered
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
    console.print(f"policy [bold]{plan.policy}[/] ({chosen}), config {plan.config}")
    console.print(_plan_table(plan))
    for excluded in plan.excluded:
        console.print(Text(f"  out: {excluded.seller}: {'; '.join(excluded.reasons)}", style="yellow"))
    if not plan.ranked:
        console.print("[bold red]nobody can take this request[/]")


def _plan_table(plan: Plan) -> Table:
    table = Table(box=None, header_style="bold", padding=GAP)
    for heading in ("", "seller", "quote", "per image", "orders", "expected", "fidelity", "why"):
        table.add_column(
            heading, justify="right" if heading in ("quote", "per image", "orders", "expected") else "left"
        )
    for place, ranked in enumerate(plan.ranked, 1):
        notes = [*ranked.reasons[0 if place == 1 else 1 :], *(one.detail for one in ranked.fit.substitutions)]
        table.add_row(
            str(place),
            ranked.fit.offer.seller.name,
            f"${format_usd(ranked.quote.total)}",
            f"${format_usd(ranked.quote.per_image)}",
            str(ranked.quote.orders),
            f"{ranked.seconds:g} s",
            Text(fidelity(ranked), style="green" if ranked.fit.exact else "yellow"),
            "; ".join(notes),
            style="bold" if place == 1 else None,
        )
    return table


def coverage_shown(covered: Sequence[Covered]) -> RenderableType:
    """Who wins each cell and at what price, and who comes second."""
    models = list(dict.fromkeys(one.model for one in covered))
    tables: list[RenderableType] = []
    for model in models:
        for operation in Operation:
            cells = [one for one in covered if one.model == model and one.cell.operation is operation]
            tables.append(_coverage_table(f"{model}, {operation}, one image at {RATIO}", cells))
    return Group(*tables)


def _coverage_table(title: str, cells: Sequence[Covered]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 2, 0, 0)
    )
    for heading in ("resolution", "quality", "winner", "price", "second", "price"):
        table.add_column(heading, justify="right" if heading == "price" else "left")
    for one in cells:
        table.add_row(one.cell.resolution, one.cell.quality, *_place(one.winner), *_place(one.second))
    return table


def _place(ranked: Ranked | None) -> tuple[Text, Text]:
    if ranked is None:
        return Text("nobody", style="red"), Text("–", style="red")
    near = "" if ranked.fit.exact else " ~"
    name = Text(ranked.fit.offer.seller.name + near, style="" if ranked.fit.exact else "yellow")
    return name, Text(f"${format_usd(ranked.quote.total)}")
