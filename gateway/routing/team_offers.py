"""The offers that a team can use: what a model costs for it, and whether it can use the model at all."""

from collections.abc import Iterator, Mapping

from gateway.catalogue import Catalogue, Offer, Price
from gateway.config.policy_schema import PolicyConfig
from gateway.routing.plan import RoutingLimits, combine_limits, seller_exclusion_reasons
from providers.orders import Cell


def list_team_prices(
    catalogue: Catalogue, model: str, team: str, allowed_policies: tuple[str, ...] | None = None
) -> dict[Cell, dict[str, Price]]:
    """Lists the prices of a model by cell and seller, without cells that the team cannot order.

    `allowed_policies`: those that the API key may request; None for all of its team. A price counts if one of the
    policies that the team's requests can get admits its seller.
    """
    prices_by_cell: dict[Cell, dict[str, Price]] = {}
    offers = [offer for offer in catalogue.offers.get(model, ()) if offer.seller.account.api_key is not None]
    for cell in catalogue.models[model].cells:
        policies = list(_iter_reachable_policies(catalogue, (model, team), cell, allowed_policies))
        prices = {
            offer.seller.name: offer.prices[cell]
            for offer in offers
            if cell in offer.prices
            and cell.operation in offer.size_options
            and any(_can_order(catalogue, policy, team, (offer, cell)) for policy in policies)
        }
        if prices:
            prices_by_cell[cell] = prices
    return prices_by_cell


def _iter_reachable_policies(
    catalogue: Catalogue, model_and_team: tuple[str, str], cell: Cell, allowed_policies: tuple[str, ...] | None
) -> Iterator[PolicyConfig]:
    """Yields the policies of requests for the cell: those that can be requested, and those that rules can select."""
    (model, team), policies = model_and_team, catalogue.policies
    requestable = catalogue.teams[team].policies if team in catalogue.teams else ()
    for name in requestable:
        if allowed_policies is None or name in allowed_policies:
            yield policies.policies[name]
    values: Mapping[str, str] = {
        "team": team,
        "model": model,
        "operation": cell.operation,
        "resolution": cell.resolution,
        "quality": cell.quality,
    }
    for rule in policies.rules:
        if all(rule.when.admits(name, value) for name, value in values.items()):
            yield policies.policies[rule.use]
            if rule.when.n is None and not rule.when.metadata:
                # Every request for the cell gets this policy.
                return
    yield policies.policies[policies.default]


def _can_order(catalogue: Catalogue, policy: PolicyConfig, team: str, offer_and_cell: tuple[Offer, Cell]) -> bool:
    """Returns whether a request for one image can be ordered at the seller, as far as its name and price matter."""
    offer, cell = offer_and_cell
    limits, price = combine_limits(policy, catalogue.teams.get(team), RoutingLimits()), offer.prices[cell].price
    is_too_expensive = any(limit is not None and price > limit for limit in (limits.max_price, limits.max_cost))
    return not is_too_expensive and not any(seller_exclusion_reasons(offer.seller, policy, limits))
