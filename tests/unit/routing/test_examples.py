"""Worked examples from the sellers' pages, over a configuration that has their prices."""

from pathlib import Path

import pytest

from gateway.catalogue import Catalogue
from gateway.config.loading import load
from gateway.config.resolving import assumed_secrets, resolve
from gateway.money import format_usd
from gateway.routing.plan import Plan, Question, plan
from gateway.routing.target import SizeWish, target_of
from providers import ADAPTERS
from providers.orders import Format, ImageRequest, Inline, Operation, Quality

CONFIG = Path(__file__).parents[2] / "config"
AN_INPUT = Inline(b"", "image/png", "")


@pytest.fixture(scope="module")
def listed() -> Catalogue:
    result = resolve(load(CONFIG), assumed_secrets, ADAPTERS)
    assert result.catalogue is not None, result.problems
    return result.catalogue


def planned(listed: Catalogue, quality: str, resolution: str, n: int = 1, operation: str = "generate") -> Plan:
    model = listed.models["gpt-image-2"]
    target, _ = target_of(model, Operation(operation), SizeWish(resolution=resolution))
    request = ImageRequest(
        operation=Operation(operation),
        model=model.name,
        prompt="",
        n=n,
        target=target,
        quality=Quality(quality),
        quality_asked=True,
        output_format=Format.PNG,
        sources=(AN_INPUT,) if operation == "edit" else (),
    )
    return plan(listed, Question(request=request), {})


def first(made: Plan) -> tuple[str, str]:
    best = made.ranked[0]
    return best.fit.offer.seller.account.name, format_usd(best.quote.total)


def test_low_at_4k_goes_to_runflow_at_0_009(listed: Catalogue) -> None:
    assert first(planned(listed, "low", "4k")) == ("runflow", "0.009")


def test_high_at_1k_goes_to_runapi_at_0_06(listed: Catalogue) -> None:
    assert first(planned(listed, "high", "1k")) == ("runapi", "0.06")


def test_high_at_2k_goes_to_runapi_at_0_10(listed: Catalogue) -> None:
    assert first(planned(listed, "high", "2k")) == ("runapi", "0.10")


def test_high_at_4k_goes_to_runflow_at_0_133(listed: Catalogue) -> None:
    assert first(planned(listed, "high", "4k")) == ("runflow", "0.133")


def test_three_lows_go_to_runflow_at_0_027(listed: Catalogue) -> None:
    made = planned(listed, "low", "1k", n=3)
    assert first(made) == ("runflow", "0.027")
    assert made.ranked[0].quote.orders == 1


def test_the_documented_route_wins_over_the_undocumented_one(listed: Catalogue) -> None:
    made = planned(listed, "low", "1k")
    assert [one.fit.offer.seller.name for one in made.ranked[:2]] == ["runflow-runs", "runflow-run"]


def test_money_is_held_for_the_dearest_price_that_a_page_names(listed: Catalogue) -> None:
    """Disputed prices: Runflow's high at 0.211 and 0.219 for edits, RunAPI's edits at 0.16."""

    def holds(made: Plan) -> dict[str, str]:
        return {one.fit.offer.seller.name: format_usd(one.quote.hold) for one in made.ranked}

    assert holds(planned(listed, "high", "1k"))["runflow-runs"] == "0.211"
    assert holds(planned(listed, "high", "1k", n=2, operation="edit"))["runflow-runs"] == "0.438"
    assert holds(planned(listed, "high", "1k", operation="edit"))["runapi"] == "0.16"
    assert holds(planned(listed, "low", "1k"))["runflow-runs"] == "0.009"


def test_every_price_of_the_pages_stands_in_its_cells(listed: Catalogue) -> None:
    for offer in listed.all_offers():
        for cell, price in offer.prices.items():
            by_quality = {"low": 9_000, "medium": 34_000, "high": 133_000}[cell.quality]
            by_resolution = {"1k": 60_000, "2k": 100_000, "4k": 160_000}[cell.resolution]
            assert price.price == (by_resolution if offer.seller.name == "runapi" else by_quality)
            assert price.source
            assert price.date
        assert len(offer.prices) == 18
