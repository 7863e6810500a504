"""Who wins which cell, who comes second, and what an operator should know about it before anything is bought."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from gateway.catalogue import CELLS, Catalogue, Cell
from gateway.config.judging import sellers_of
from gateway.money import format_usd
from gateway.routing.plan import Plan, Question, Ranked, plan
from providers.orders import Format, ImageRequest, Inline, Operation, Quality
from providers.sizes import Resolution, target_of_shape

# Every seller of this model sells this ratio in every tier, and most callers want it or its like.
RATIO = "16:9"
STEEP = 2
ALL = "all"
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
    return [*_unreachable(catalogue), *(f"{message} ({in_short(cells)})" for message, cells in lines.items())]


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
    for name in (name for name in policies.policies if name not in used):
        yield f"policy {name}: neither the default, nor any rule, nor any team uses it"


def in_short(cells: Sequence[Cell]) -> str:
    """'generate: all but 1k high; edit: 4k': each operation's cells in the fewest words."""
    told = {operation: _of_operation(operation, cells) for operation in Operation}
    if len(set(told.values())) == 1:
        words = told[Operation.GENERATE]
        return "everywhere" if words == ALL else f"generate and edit: {words}"
    return "; ".join(f"{operation}: {words}" for operation, words in told.items() if words)


def _of_operation(operation: Operation, cells: Sequence[Cell]) -> str:
    every = [(resolution, quality) for resolution in Resolution for quality in Quality]
    held = [(cell.resolution, cell.quality) for cell in cells if cell.operation is operation]
    if len(held) == len(every):
        return ALL
    left_out = [pair for pair in every if pair not in held]
    inside, outside = _grouped(held), f"{ALL} but {_grouped(left_out)}"
    return outside if len(outside) < len(inside) else inside


def _grouped(pairs: Sequence[tuple[Resolution, Quality]]) -> str:
    """'1k/2k high, 4k': resolutions that share their qualities together, and all qualities left unsaid."""
    qualities = {tier: tuple(quality for quality in Quality if (tier, quality) in pairs) for tier in Resolution}
    tiers: dict[tuple[Quality, ...], list[str]] = {}
    for tier, held in qualities.items():
        if held:
            tiers.setdefault(held, []).append(tier.value)
    return ", ".join(_group(names, held) for held, names in tiers.items())


def _group(tiers: list[str], held: tuple[Quality, ...]) -> str:
    if len(held) == len(Quality):
        return "/".join(tiers)
    return ("" if len(tiers) == len(Resolution) else f"{'/'.join(tiers)} ") + "/".join(held)
