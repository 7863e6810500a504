"""Who wins which cell, who comes next, and what an operator should know about it before anything is bought."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.catalogue import CELLS, Catalogue, Cell, Offer
from gateway.config.blocks import RuleConfig
from gateway.config.judging import wanted_values
from gateway.routing.fit import Fit, fit, fits, wants_of
from gateway.routing.plan import Plan, Question, Ranked, plan_by
from providers.orders import Format, ImageRequest, Inline, Operation, Quality
from providers.sizes import RATIOS, Resolution, SizeError, Target, target_of_pixels, target_of_shape

# Tried in this order: most sellers sell the first in every tier, and most callers want it or its like.
LIKELY_RATIOS = ("16:9", "1:1", *RATIOS)
STEEP = 2
ALL = "all"
AN_INPUT = Inline(b"", "image/png", "")


class Covered(Struct, frozen=True):
    """One cell by one policy: the plan for one image in it, of which the first two places are shown. `shape` is that of
    the image: where nobody sells the likeliest one, the first that somebody does."""

    model: str
    cell: Cell
    shape: str
    plan: Plan

    @property
    def winner(self) -> Ranked | None:
        return self.plan.ranked[0] if self.plan.ranked else None

    @property
    def second(self) -> Ranked | None:
        return self.plan.ranked[1] if len(self.plan.ranked) > 1 else None


def coverage(catalogue: Catalogue) -> list[Covered]:
    """Every cell by the default policy; and the cells of each rule by the policy that it uses."""
    policies = catalogue.policies
    found = _covered(catalogue, CELLS, list(catalogue.models), (policies.default, 0))
    for number, rule in enumerate(policies.rules, 1):
        if rule.use != policies.default:
            models = [model for model in catalogue.models if _admits(rule, "model", model)]
            found += _covered(catalogue, _cells_of(rule), models, (rule.use, number))
    return found


def _covered(
    catalogue: Catalogue, cells: Sequence[Cell], models: Sequence[str], chosen: tuple[str, int | None]
) -> list[Covered]:
    return [_cover(catalogue, model, cell, chosen) for model in models for cell in cells]


def _cover(catalogue: Catalogue, model: str, cell: Cell, chosen: tuple[str, int | None]) -> Covered:
    """In the first shape that the policy has a seller for; else in one that it keeps all sellers from; else in any."""
    shapes = _shapes(catalogue, model, cell)
    sold = [target for target in shapes if _is_sold(catalogue, model, cell, target)] or shapes[:1]
    plans = ((target, plan) for target in sold for plan in _plans(catalogue, model, cell, target, chosen))
    first = next(_plans(catalogue, model, cell, sold[0], chosen))
    target, plan = next(((target, plan) for target, plan in plans if plan.ranked), (sold[0], first))
    return Covered(model, cell, _label(target), plan)


def _plans(
    catalogue: Catalogue, model: str, cell: Cell, target: Target, chosen: tuple[str, int | None]
) -> Iterator[Plan]:
    """For a request that names its quality, and for one that gets the model's own by naming none."""
    request = _request(model, cell, target)
    yield plan_by(catalogue, Question(request=request), chosen, {})
    if cell.quality is catalogue.models[model].quality:
        yield plan_by(catalogue, Question(request=replace(request, quality_asked=False)), chosen, {})


def _shapes(catalogue: Catalogue, model: str, cell: Cell) -> list[Target]:
    """All that its offers have words for, the likeliest first; pixels that only a preset has come last."""
    sizings = [sizing for offer in catalogue.offers.get(model, ()) for sizing in offer.sizings.values()]
    presets = (text.pixels for sizing in sizings for text in sizing.presets.values())
    made = [
        *(_possible(target_of_shape, ratio, cell.resolution) for ratio in _likely(catalogue, model)),
        *(_possible(target_of_pixels, *pixels) for pixels in presets),
    ]
    return [target for target in dict.fromkeys(made) if target and target.resolution is cell.resolution]


def _possible(make: Callable[..., Target], *words: object) -> Target | None:
    """None where the model has no such size."""
    try:
        return make(*words)
    except SizeError:
        return None


def _likely(catalogue: Catalogue, model: str) -> tuple[str, ...]:
    """What is sold in any cell of the model comes before what is not: most cells are then shown in the same shape."""
    return tuple(sorted(LIKELY_RATIOS, key=lambda ratio: not _is_sold_anywhere(catalogue, model, ratio)))


def _is_sold_anywhere(catalogue: Catalogue, model: str, ratio: str) -> bool:
    return any(_is_sold(catalogue, model, cell, target_of_shape(ratio, cell.resolution)) for cell in CELLS)


def _label(target: Target) -> str:
    return target.ratio if target.ratio in RATIOS else f"{target.width}x{target.height}"


def _cells_of(rule: RuleConfig) -> list[Cell]:
    names = ("operation", "resolution", "quality")
    return [cell for cell in CELLS if all(_admits(rule, name, getattr(cell, name)) for name in names)]


def _admits(rule: RuleConfig, name: str, value: object) -> bool:
    admitted = wanted_values(rule.when, name)
    return admitted is None or value in admitted


def _is_sold(catalogue: Catalogue, model: str, cell: Cell, target: Target) -> bool:
    wants = wants_of(_request(model, cell, target))
    return any(isinstance(found, Fit) for found in fits(catalogue, model, wants))


def _request(model: str, cell: Cell, target: Target) -> ImageRequest:
    return ImageRequest(
        operation=cell.operation,
        model=model,
        prompt="",
        n=1,
        target=target,
        quality=cell.quality,
        output_format=Format.PNG,
        quality_asked=True,
        sources=(AN_INPUT,) if cell.operation is Operation.EDIT else (),
    )


def warnings(catalogue: Catalogue, covered: Sequence[Covered]) -> list[str]:
    """One line for each thing worth knowing, with the cells that it concerns."""
    lines: dict[str, list[Cell]] = {}
    for one in covered:
        by = "" if one.plan.policy == catalogue.policies.default else f", by policy {one.plan.policy}"
        for message in _about(catalogue, one):
            lines.setdefault(f"{one.model}{by}: {message}", []).append(one.cell)
    return [*_unreachable(catalogue), *(f"{message} ({in_short(cells)})" for message, cells in lines.items())]


def _about(catalogue: Catalogue, one: Covered) -> Iterator[str]:
    first = one.winner
    if first is None:
        shapes = _shapes(catalogue, one.model, one.cell)
        sold = any(_is_sold(catalogue, one.model, one.cell, target) for target in shapes)
        yield "the policy lets nobody sell this" if sold else "nobody sells this"
        return
    for substitution in first.fit.substitutions:
        yield f"{_name(first)} wins on an assumption: {substitution.name}"
    reachable = one.plan.ranked[1 : one.plan.failover.attempts]
    if not reachable:
        yield f"{_name(first)} is the only one to be tried: there is no failover"
    for other in reachable:
        yield from _about_failover(first, other)


def _about_failover(first: Ranked, other: Ranked) -> Iterator[str]:
    failing_over = f"failing over from {_name(first)} to {_name(other)}"
    for change in _changes(first, other):
        yield f"{failing_over} changes what is delivered: {change}"
    if other.quote.total > STEEP * first.quote.total:
        yield f"{failing_over} more than doubles the price"


def _name(ranked: Ranked) -> str:
    return ranked.fit.offer.seller.name


def _changes(first: Ranked, other: Ranked) -> list[str]:
    """What comes only near at the second and not at the first, and a quality that both only believe in."""
    before, after = ({one.name for one in ranked.fit.substitutions} for ranked in (first, other))
    believed = [ranked.fit.offer.assumes for ranked in (first, other)]
    differs = [f"quality {believed[0]} becomes {believed[1]}"] if all(believed) and len(set(believed)) > 1 else []
    return [*sorted(after - before), *differs]


def _unreachable(catalogue: Catalogue) -> Iterator[str]:
    """Offers that no policy in use ever ranks, in any cell; and policies that nothing uses."""
    policies = catalogue.policies
    used = {policies.default, *(rule.use for rule in policies.rules)}
    used |= {name for team in catalogue.teams.values() for name in team.policies}
    plans = [one.plan for name in used for one in _covered(catalogue, CELLS, list(catalogue.models), (name, None))]
    reached = {(_name(ranked), ranked.fit.offer.model) for made in plans for ranked in made.ranked}
    for offer in catalogue.all_offers():
        if (offer.seller.name, offer.model) not in reached and not _is_reachable(catalogue, offer, used):
            yield f"{offer.seller.name}: no policy in use can reach its offer of {offer.model}"
    for name in (name for name in policies.policies if name not in used):
        yield f"policy {name}: neither the default, nor any rule, nor any team uses it"


def _is_reachable(catalogue: Catalogue, offer: Offer, policies: Iterable[str]) -> bool:
    """Whether any policy ranks it for anything that it sells, in any shape."""
    sold = [
        (cell, target)
        for cell in offer.prices
        for target in _shapes(catalogue, offer.model, cell)
        if isinstance(fit(offer, wants_of(_request(offer.model, cell, target))), Fit)
    ]
    plans = (
        plan
        for name in policies
        for cell, target in sold
        for plan in _plans(catalogue, offer.model, cell, target, (name, None))
    )
    return any(ranked.fit.offer == offer for plan in plans for ranked in plan.ranked)


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
