"""The prices that a team can get: by its policies, the rules, its limits and its sellers' keys."""

import pytest

from gateway.catalogue import Catalogue
from gateway.config.policy_schema import PolicyConfig
from gateway.config.schema import RuleConditions, RuleConfig, TeamConfig
from gateway.config.value_types import Usd
from gateway.routing.team_offers import list_team_prices
from providers.orders import Cell, Operation
from tests.harness.image_model import ALL_CELLS
from tests.unit.routing.catalogue_factory import MODEL, make_account, make_catalogue, make_offer, make_uniform_prices

CHEAP, DEAR = make_offer("cheap", make_uniform_prices(10_000)), make_offer("dear", make_uniform_prices(90_000))
ONLY_CHEAP, ONLY_DEAR = PolicyConfig(rank="cost", only=("cheap",)), PolicyConfig(rank="cost", only=("dear",))
HIGH_4K = Cell(Operation.GENERATE, "4k", "high")


def list_sellers(catalogue: Catalogue, team: str = "everyone", **options: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Lists the sets of sellers that the cells have."""
    return {tuple(sorted(sellers)) for sellers in list_team_prices(catalogue, MODEL, team, **options).values()}


def test_every_sold_cell_has_the_prices_of_all_sellers() -> None:
    prices = list_team_prices(make_catalogue([CHEAP, DEAR]), MODEL, "everyone")
    assert set(prices) == set(ALL_CELLS)
    assert {price.price for price in prices[HIGH_4K].values()} == {10_000, 90_000}


def test_seller_without_a_key_is_left_out() -> None:
    offer = make_offer("keyless", make_uniform_prices(1), account=make_account(None))
    assert list_sellers(make_catalogue([CHEAP, offer])) == {("cheap",)}
    assert list_team_prices(make_catalogue([offer]), MODEL, "everyone") == {}


def test_cell_without_a_price_or_an_operation_is_left_out() -> None:
    offer = make_offer("few", {HIGH_4K: 1, Cell(Operation.EDIT, "1k", "low"): 1})
    assert len(list_team_prices(make_catalogue([offer]), MODEL, "everyone")) == 2
    generating = make_offer(
        "few", make_uniform_prices(1), size_options={Operation.GENERATE: CHEAP.size_options["edit"]}
    )  # type: ignore[index]
    cells = list_team_prices(make_catalogue([generating]), MODEL, "everyone")
    assert {cell.operation for cell in cells} == {Operation.GENERATE}


@pytest.mark.parametrize(("allowed", "sellers"), [(None, {("cheap", "dear")}), ((), {("cheap",)})])
def test_policies_that_can_be_requested_count(allowed: tuple[str, ...] | None, sellers: set[tuple[str, ...]]) -> None:
    catalogue = make_catalogue([CHEAP, DEAR], {"default": ONLY_CHEAP, "other": ONLY_DEAR})
    assert list_sellers(catalogue, allowed_policies=allowed) == sellers  # type: ignore[arg-type]


def test_rule_that_always_applies_replaces_the_default() -> None:
    rules = [RuleConfig(when=RuleConditions(team="everyone", resolution="4k"), use="other")]
    teams = {"everyone": TeamConfig(), "others": TeamConfig()}
    catalogue = make_catalogue([CHEAP, DEAR], {"default": ONLY_CHEAP, "other": ONLY_DEAR}, rules, teams)
    prices = list_team_prices(catalogue, MODEL, "everyone")
    assert {tuple(prices[cell]) for cell in prices if cell.resolution == "4k"} == {("dear",)}
    assert {tuple(prices[cell]) for cell in prices if cell.resolution != "4k"} == {("cheap",)}
    assert list_sellers(catalogue, "others") == {("cheap",)}


@pytest.mark.parametrize("when", [RuleConditions(n=2), RuleConditions(metadata={"campaign": "spring"})])
def test_rule_that_applies_to_some_requests_leaves_the_default(when: RuleConditions) -> None:
    rules = [RuleConfig(when=when, use="other")]
    teams = {"everyone": TeamConfig()}
    catalogue = make_catalogue([CHEAP, DEAR], {"default": ONLY_CHEAP, "other": ONLY_DEAR}, rules, teams)
    assert list_sellers(catalogue) == {("cheap", "dear")}


@pytest.mark.parametrize("limit", ["max_price", "max_cost"])
def test_offer_above_the_limit_of_the_team_is_left_out(limit: str) -> None:
    teams = {"everyone": TeamConfig(**{limit: Usd(10_000)})}  # type: ignore[arg-type]
    assert list_sellers(make_catalogue([CHEAP, DEAR], teams=teams)) == {("cheap",)}
