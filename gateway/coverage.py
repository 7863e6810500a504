"""Who wins which cell, who comes second, and what an operator should know about it before anything is bought."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from gateway.catalogue import CELLS, Catalogue, Cell
from gateway.config.judging import sellers_of
from gateway.money import format_usd
from gateway.routing.plan import Plan, Question, Ranked, plan
from providers.orders import Format, ImageRequest, Inline, Operation
from providers.sizes import target_of_shape

# Every seller of this model sells this ratio in every tier, and most callers want it or its like.
RATIO = "16:9"
STEEP = 2
AN_INPUT = Inline(b"", "image/png", "")


class Covered(Struct, frozen=True):
    """One cell: the plan for one image in it, of which the first two places are shown."""

    model: str
    cell: Cell
    plan: Plan

    @property
    def winner(self) -> Ranked | None:
        return self.plan.ranked[0] if self.plan.ranked else None

    @property
    def second(self) -> Ranked | None:
        return self.plan.ranked[1] if len(self.plan.ranked) > 1 else None


def coverage(catalogue: Catalogue) -> list[Covered]:
    """By the policy that decides where no team, and no wish of a caller, does."""
    return [
        Covered(model, cell, plan(catalogue, Question(request=_request(model, cell)), {}))
        for model in catalogue.models
        for cell in CELLS
    ]


def _request(model: str, cell: Cell) -> ImageRequest:
    return ImageRequest(
        operation=cell.operation,
        model=model,
        prompt="",
        n=1,
        target=target_of_shape(RATIO, cell.resolution),
        quality=cell.quality,
        output_format=Format.PNG,
        quality_asked=True,
        sources=(AN_INPUT,) if cell.operation is Operation.EDIT else (),
    )


def warnings(catalogue: Catalogue, covered: Sequence[Covered]) -> list[str]:
    """One line for each thing worth knowing, with the cells that it concerns."""
    lines: dict[str, list[Cell]] = {}
    for one in covered:
        for message in _about(one):
            lines.setdefault(f"{one.model}: {message}", []).append(one.cell)
    return [*_unreachable(catalogue), *(f"{message} ({_shortly(cells)})" for message, cells in lines.items())]


def _about(one: Covered) -> Iterator[str]:
    first, second = one.winner, one.second
    if first is None:
        yield "nobody sells this"
        return
    for substitution in first.fit.substitutions:
        yield f"{_name(first)} wins on an assumption: {substitution.name}"
    if second is None:
        yield f"{_name(first)} is the only seller: there is no failover"
        return
    for name in _added(first, second):
        yield f"failing over from {_name(first)} to {_name(second)} changes what is delivered: {name}"
    if second.quote.total > STEEP * first.quote.total:
        prices = f"${format_usd(first.quote.total)} to ${format_usd(second.quote.total)}"
        yield f"failing over from {_name(first)} to {_name(second)} raises the price from {prices}"


def _name(ranked: Ranked) -> str:
    return ranked.fit.offer.seller.name


def _added(first: Ranked, second: Ranked) -> Iterator[str]:
    before = {substitution.name for substitution in first.fit.substitutions}
    yield from (one.name for one in second.fit.substitutions if one.name not in before)


def _unreachable(catalogue: Catalogue) -> Iterator[str]:
    """Offers that no policy in use lets in."""
    policies = catalogue.policies
    used = {policies.default, *(rule.use for rule in policies.rules)}
    used |= {name for team in catalogue.teams.values() for name in team.policies}
    reached = {name for policy in used for name in sellers_of(policies.policies[policy], list(catalogue.sellers))}
    for name in catalogue.sellers:
        if name not in reached:
            yield f"{name}: no policy in use can reach its offers"
    for name in policies.policies.keys() - used:
        yield f"policy {name}: neither the default, nor any rule, nor any team uses it"


def _shortly(cells: Sequence[Cell]) -> str:
    """'generate 1k low' for one; for several, what they have in common."""
    if len(cells) == len(CELLS):
        return "everywhere"
    parts: Mapping[str, list[str]] = {
        name: list(dict.fromkeys(str(getattr(cell, name)) for cell in cells))
        for name in ("operation", "resolution", "quality")
    }
    if len(cells) == len(parts["operation"]) * len(parts["resolution"]) * len(parts["quality"]):
        return " ".join("/".join(values) for values in parts.values())
    return ", ".join(f"{cell.operation} {cell.resolution} {cell.quality}" for cell in cells)
