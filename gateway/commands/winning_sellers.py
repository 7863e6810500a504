"""Which seller wins each cell and which is next, and warnings about it for operators."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.catalogue import Catalogue, Model, Offer
from gateway.config.schema import RuleConfig
from gateway.routing.fit import Fit, fit_requirements, match_offer, match_offers
from gateway.routing.plan import Plan, RankedOffer, RoutingQuery, make_plan_with_policy
from gateway.routing.routing_request import RoutingRequest
from providers.image_sizes import RATIOS, SizeError, TargetSize
from providers.orders import Cell, Operation

# Checked in this order: most sellers offer the first in every resolution, and most clients request it.
LIKELY_RATIOS = ("16:9", "1:1", *RATIOS)
STEEP_PRICE_RATIO = 2
ALL_LABEL = "all"


class CellWinners(Struct, frozen=True):
    """The plan for one image of one cell by one policy. `shape`: the most common shape that a seller offers in this
    cell."""

    model: str
    cell: Cell
    shape: str
    plan: Plan

    @property
    def winner(self) -> RankedOffer | None:
        return self.plan.ranked[0] if self.plan.ranked else None

    @property
    def runner_up(self) -> RankedOffer | None:
        return self.plan.ranked[1] if len(self.plan.ranked) > 1 else None


def find_cell_winners(catalogue: Catalogue) -> list[CellWinners]:
    """Plans every cell by the default policy, and the cells of each rule by the policy of that rule."""
    policies = catalogue.policies
    all_winners = _find_all_winners(catalogue, list(catalogue.models), (policies.default, 0))
    for number, rule in enumerate(policies.rules, 1):
        if rule.use != policies.default:
            models = [model for model in catalogue.models if rule.when.admits("model", model)]
            all_winners += _find_all_winners(catalogue, models, (rule.use, number), rule)
    return all_winners


def _find_all_winners(
    catalogue: Catalogue,
    models: Sequence[str],
    policy_choice: tuple[str, int | None],
    rule: RuleConfig | None = None,
) -> list[CellWinners]:
    """Plans every cell of the models, or only those that the rule matches."""
    return [
        _find_winners(catalogue, model, cell, policy_choice)
        for model in models
        for cell in catalogue.models[model].cells
        if rule is None or _matches_cell(rule, cell)
    ]


def _find_winners(catalogue: Catalogue, model: str, cell: Cell, policy_choice: tuple[str, int | None]) -> CellWinners:
    """Plans the first shape for which the policy has a seller. If there is none, plans a shape that any seller offers,
    or else the first."""
    targets = _list_targets(catalogue, model, cell)
    sold_targets = [target for target in targets if _is_sold(catalogue, model, cell, target)] or targets[:1]
    plans = (
        (target, plan)
        for target in sold_targets
        for plan in _iterate_plans(catalogue, model, cell, target, policy_choice)
    )
    first_plan = next(_iterate_plans(catalogue, model, cell, sold_targets[0], policy_choice))
    target, plan = next(((target, plan) for target, plan in plans if plan.ranked), (sold_targets[0], first_plan))
    return CellWinners(model, cell, _format_shape(target), plan)


def _iterate_plans(
    catalogue: Catalogue, model: str, cell: Cell, target: TargetSize, policy_choice: tuple[str, int | None]
) -> Iterator[Plan]:
    """Yields two plans: of a request that names the quality, and of one that uses the default of the model."""
    request = _make_request(catalogue.models[model], cell, target)
    yield make_plan_with_policy(catalogue, RoutingQuery(request=request), policy_choice)
    if cell.quality == catalogue.models[model].quality:
        yield make_plan_with_policy(
            catalogue, RoutingQuery(request=replace(request, has_explicit_quality=False)), policy_choice
        )


def _list_targets(catalogue: Catalogue, model: str, cell: Cell) -> list[TargetSize]:
    """Lists all sizes that the offers support: the most common first, presets last."""
    size_options = [
        size_option for offer in catalogue.offers.get(model, ()) for size_option in offer.size_options.values()
    ]
    presets = (text.pixels for size_option in size_options for text in size_option.presets.values())
    law, ratios = catalogue.models[model].size_law, _sort_ratios(catalogue, model)
    targets = [
        *(_make_target_or_none(law.target_from_ratio, ratio, cell.resolution) for ratio in ratios),
        *(_make_target_or_none(law.target_from_pixels, *pixels) for pixels in presets),
    ]
    return [target for target in dict.fromkeys(targets) if target and target.resolution == cell.resolution]


def _make_target_or_none(make: Callable[..., TargetSize], *arguments: object) -> TargetSize | None:
    """Makes the target. Returns None if the model has no such size."""
    try:
        return make(*arguments)
    except SizeError:
        return None


def _sort_ratios(catalogue: Catalogue, model: str) -> tuple[str, ...]:
    """Sorts the ratios. Those that any cell of the model offers come first, so that most cells show the same shape."""
    return tuple(sorted(LIKELY_RATIOS, key=lambda ratio: not _is_sold_anywhere(catalogue, model, ratio)))


def _is_sold_anywhere(catalogue: Catalogue, model: str, ratio: str) -> bool:
    law = catalogue.models[model].size_law
    return any(
        target is not None and _is_sold(catalogue, model, cell, target)
        for cell in catalogue.models[model].cells
        for target in [_make_target_or_none(law.target_from_ratio, ratio, cell.resolution)]
    )


def _format_shape(target: TargetSize) -> str:
    return target.ratio if target.ratio in RATIOS else f"{target.width}x{target.height}"


def _matches_cell(rule: RuleConfig, cell: Cell) -> bool:
    return all(rule.when.admits(name, getattr(cell, name)) for name in ("operation", "resolution", "quality"))


def _is_sold(catalogue: Catalogue, model: str, cell: Cell, target: TargetSize) -> bool:
    requirements = fit_requirements(_make_request(catalogue.models[model], cell, target))
    return any(isinstance(result, Fit) for result in match_offers(catalogue, model, requirements))


def _make_request(model: Model, cell: Cell, target: TargetSize) -> RoutingRequest:
    return RoutingRequest(
        operation=cell.operation,
        model=model.name,
        n=1,
        target=target,
        quality=cell.quality,
        output_format=model.output_format,
        has_explicit_quality=True,
        input_count=1 if cell.operation is Operation.EDIT else 0,
    )


def list_winner_warnings(catalogue: Catalogue, all_winners: Sequence[CellWinners]) -> list[str]:
    """Lists the warnings: one line for each finding, with the cells that it concerns."""
    cells_by_message: dict[tuple[str, str], list[Cell]] = {}
    for cell_winners in all_winners:
        policy_suffix = (
            "" if cell_winners.plan.policy == catalogue.policies.default else f", by policy {cell_winners.plan.policy}"
        )
        for message in _list_cell_warnings(catalogue, cell_winners):
            key = cell_winners.model, f"{cell_winners.model}{policy_suffix}: {message}"
            cells_by_message.setdefault(key, []).append(cell_winners.cell)
    return [
        *_list_unreachable_offers(catalogue),
        *(
            f"{message} ({summarize_cells(catalogue.models[model], cells)})"
            for (model, message), cells in cells_by_message.items()
        ),
    ]


def _list_cell_warnings(catalogue: Catalogue, cell_winners: CellWinners) -> Iterator[str]:
    winner = cell_winners.winner
    if winner is None:
        targets = _list_targets(catalogue, cell_winners.model, cell_winners.cell)
        is_sold = any(_is_sold(catalogue, cell_winners.model, cell_winners.cell, target) for target in targets)
        yield "the policy excludes every seller" if is_sold else "no seller offers this"
        return
    for substitution in winner.fit.substitutions:
        yield f"{_get_seller_name(winner)} wins on an assumption: {substitution.name}"
    reachable = cell_winners.plan.ranked[1 : cell_winners.plan.failover.attempts]
    if not reachable:
        yield f"{_get_seller_name(winner)} is the only seller that is tried: no failover"
    for fallback in reachable:
        yield from _list_failover_warnings(winner, fallback)


def _list_failover_warnings(winner: RankedOffer, fallback: RankedOffer) -> Iterator[str]:
    failover = f"failover from {_get_seller_name(winner)} to {_get_seller_name(fallback)}"
    for change in _list_failover_changes(winner, fallback):
        yield f"{failover} changes the delivered image: {change}"
    if fallback.quote.total > STEEP_PRICE_RATIO * winner.quote.total:
        yield f"{failover} more than doubles the price"


def _get_seller_name(ranked: RankedOffer) -> str:
    return ranked.fit.offer.seller.name


def _list_failover_changes(winner: RankedOffer, fallback: RankedOffer) -> list[str]:
    """Lists substitutions that the fallback makes and the winner does not, and a change of the assumed quality."""
    winner_substitutions, fallback_substitutions = (
        {substitution.name for substitution in ranked.fit.substitutions} for ranked in (winner, fallback)
    )
    assumed_qualities = [ranked.fit.offer.assumed_quality for ranked in (winner, fallback)]
    quality_changes = (
        [f"quality {assumed_qualities[0]} becomes {assumed_qualities[1]}"]
        if all(assumed_qualities) and len(set(assumed_qualities)) > 1
        else []
    )
    return [*sorted(fallback_substitutions - winner_substitutions), *quality_changes]


def _list_unreachable_offers(catalogue: Catalogue) -> Iterator[str]:
    """Yields offers that no policy in use ranks in any cell, and unused policies."""
    policies = catalogue.policies
    used = {policies.default, *(rule.use for rule in policies.rules)}
    used |= {name for team in catalogue.teams.values() for name in team.policies}
    plans = [
        cell_winners.plan
        for name in used
        for cell_winners in _find_all_winners(catalogue, list(catalogue.models), (name, None))
    ]
    reached = {(_get_seller_name(ranked), ranked.fit.offer.model) for plan in plans for ranked in plan.ranked}
    # A canary gets a share of the requests, which these plans need not be.
    canaries = {policy.canary.seller for name in used if (policy := policies.policies[name]).canary}
    for offer in catalogue.iter_offers():
        if offer.seller.name in canaries:
            continue
        if (offer.seller.name, offer.model) not in reached and not _is_reachable(catalogue, offer, used):
            yield f"{offer.seller.name}: no policy in use reaches its offer of {offer.model}"
    for name in (name for name in policies.policies if name not in used):
        yield f"policy {name} is unused: not the default, not in a rule, not in a team"


def _is_reachable(catalogue: Catalogue, offer: Offer, policies: Iterable[str]) -> bool:
    """Returns whether any policy ranks the offer in any cell and shape."""
    model = catalogue.models[offer.model]
    sold = [
        (cell, target)
        for cell in offer.prices
        for target in _list_targets(catalogue, offer.model, cell)
        if isinstance(match_offer(offer, fit_requirements(_make_request(model, cell, target))), Fit)
    ]
    plans = (
        plan
        for name in policies
        for cell, target in sold
        for plan in _iterate_plans(catalogue, offer.model, cell, target, (name, None))
    )
    return any(ranked.fit.offer == offer for plan in plans for ranked in plan.ranked)


def summarize_cells(model: Model, cells: Sequence[Cell]) -> str:
    """Describes cells of a model by operation, as short as possible: 'generate: all but 1k high; edit: 4k'."""
    summaries = {operation: _summarize_operation(model, operation, cells) for operation in Operation}
    if len(set(summaries.values())) == 1:
        summary = summaries[Operation.GENERATE]
        return "everywhere" if summary == ALL_LABEL else f"generate and edit: {summary}"
    return "; ".join(f"{operation}: {summary}" for operation, summary in summaries.items() if summary)


def _summarize_operation(model: Model, operation: Operation, cells: Sequence[Cell]) -> str:
    all_pairs = [(tier, quality) for tier in model.size_law.resolutions for quality in model.qualities]
    included = [(cell.resolution, cell.quality) for cell in cells if cell.operation is operation]
    if len(included) == len(all_pairs):
        return ALL_LABEL
    excluded = [pair for pair in all_pairs if pair not in included]
    inclusive, exclusive = _summarize_pairs(model, included), f"{ALL_LABEL} but {_summarize_pairs(model, excluded)}"
    return exclusive if len(exclusive) < len(inclusive) else inclusive


def _summarize_pairs(model: Model, pairs: Sequence[tuple[str, str]]) -> str:
    """Groups resolutions with the same qualities: '1k/2k high, 4k'. Omits the qualities if all are included."""
    tiers: dict[tuple[str, ...], list[str]] = {}
    for tier in model.size_law.resolutions:
        if tier_qualities := tuple(quality for quality in model.qualities if (tier, quality) in pairs):
            tiers.setdefault(tier_qualities, []).append(tier)
    return ", ".join(_format_group(model, tier_names, qualities) for qualities, tier_names in tiers.items())


def _format_group(model: Model, tiers: list[str], qualities: tuple[str, ...]) -> str:
    if len(qualities) == len(model.qualities):
        return "/".join(tiers)
    return ("" if len(tiers) == len(model.size_law.tiers) else f"{'/'.join(tiers)} ") + "/".join(qualities)
