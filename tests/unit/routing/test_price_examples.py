"""Worked examples with the sellers' published prices."""

from pathlib import Path

import pytest

from gateway.catalogue import Catalogue
from gateway.config.catalogue_builder import placeholder_secrets, resolve_files
from gateway.config.loader import load
from gateway.money import format_usd
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from gateway.routing.requested_size import SizeRequest, resolve_target
from gateway.routing.routing_request import RoutingRequest
from providers import ADAPTERS
from providers.orders import Format, Operation

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    result = resolve_files(load(CONFIG), placeholder_secrets, ADAPTERS)
    assert result.catalogue is not None, result.problems
    return result.catalogue


def plan_request(catalogue: Catalogue, quality: str, resolution: str, n: int = 1, operation: str = "generate") -> Plan:
    model = catalogue.models["gpt-image-2"]
    target, _ = resolve_target(model, Operation(operation), SizeRequest(resolution=resolution))
    request = RoutingRequest(
        operation=Operation(operation),
        model=model.name,
        n=n,
        target=target,
        quality=quality,
        has_explicit_quality=True,
        output_format=Format.PNG,
        input_count=1 if operation == "edit" else 0,
    )
    return make_plan(catalogue, RoutingQuery(request=request), {})


def get_best(plan_result: Plan) -> tuple[str, str]:
    best = plan_result.ranked[0]
    return best.fit.offer.seller.account.name, format_usd(best.quote.total)


def test_low_at_4k_goes_to_runflow_at_0_009(catalogue: Catalogue) -> None:
    assert get_best(plan_request(catalogue, "low", "4k")) == ("runflow", "0.009")


def test_high_at_1k_goes_to_runapi_at_0_06(catalogue: Catalogue) -> None:
    assert get_best(plan_request(catalogue, "high", "1k")) == ("runapi", "0.06")


def test_high_at_2k_goes_to_runapi_at_0_10(catalogue: Catalogue) -> None:
    assert get_best(plan_request(catalogue, "high", "2k")) == ("runapi", "0.10")


def test_high_at_4k_goes_to_runflow_at_0_133(catalogue: Catalogue) -> None:
    assert get_best(plan_request(catalogue, "high", "4k")) == ("runflow", "0.133")


def test_three_lows_go_to_runflow_at_0_027(catalogue: Catalogue) -> None:
    plan_result = plan_request(catalogue, "low", "1k", n=3)
    assert get_best(plan_result) == ("runflow", "0.027")
    assert plan_result.ranked[0].quote.orders == 1


def test_documented_route_ranks_before_undocumented_one(catalogue: Catalogue) -> None:
    plan_result = plan_request(catalogue, "low", "1k")
    assert [entry.fit.offer.seller.name for entry in plan_result.ranked[:2]] == ["runflow-runs", "runflow-run"]


def test_ceiling_is_highest_documented_price(catalogue: Catalogue) -> None:
    """Disputed prices: Runflow's high quality at 0.211 and 0.219 for edits, RunAPI's edits at 0.16."""

    def list_ceilings(plan_result: Plan) -> dict[str, str]:
        return {entry.fit.offer.seller.name: format_usd(entry.quote.ceiling) for entry in plan_result.ranked}

    assert list_ceilings(plan_request(catalogue, "high", "1k"))["runflow-runs"] == "0.211"
    assert list_ceilings(plan_request(catalogue, "high", "1k", n=2, operation="edit"))["runflow-runs"] == "0.438"
    assert list_ceilings(plan_request(catalogue, "high", "1k", operation="edit"))["runapi"] == "0.16"
    assert list_ceilings(plan_request(catalogue, "low", "1k"))["runflow-runs"] == "0.009"


def test_every_documented_price_is_in_its_cells(catalogue: Catalogue) -> None:
    for offer in catalogue.iter_offers():
        for cell, price in offer.prices.items():
            by_quality = {"low": 9_000, "medium": 34_000, "high": 133_000}[cell.quality]
            by_resolution = {"1k": 60_000, "2k": 100_000, "4k": 160_000}[cell.resolution]
            assert price.price == (by_resolution if offer.seller.name == "runapi" else by_quality)
            assert price.source
            assert price.date
        assert len(offer.prices) == 18
