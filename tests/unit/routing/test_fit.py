"""How requests fit offers: exactly, with substitutions, or not at all."""

from typing import Any

from msgspec import structs

from gateway.config.offer_schema import SizeOptions
from gateway.config.value_types import Ratio
from gateway.routing.fit import MAX_CACHED_FITS, fit_requirements, match_offers
from gateway.routing.plan import RoutingQuery, make_plan
from gateway.routing.routing_request import RoutingRequest
from providers.orders import Format, Operation, PixelSize, PresetSize, RatioSize
from tests.harness.image_model import QUALITIES, target_from_pixels, target_from_ratio
from tests.unit.routing.catalogue_factory import (
    MODEL,
    OTHER_MODEL,
    RATIO_SIZES,
    UNVERIFIED_SIZES,
    make_account,
    make_catalogue,
    make_offer,
    make_request,
    make_uniform_prices,
)

ALL_OFFERS = [
    make_offer(name, make_uniform_prices(10_000), position=place) for place, name in enumerate(("a", "b", "c"))
]


def match_single_offer(routing_request: RoutingRequest, **changes: Any) -> Any:
    prices = changes.pop("prices", make_uniform_prices(1))
    catalogue = make_catalogue([make_offer("one", prices, **changes)])
    return match_offers(catalogue, MODEL, fit_requirements(routing_request))[0]


def test_most_faithful_size_spec_is_chosen() -> None:
    wide_request = make_request(target=target_from_pixels(1536, 864), has_explicit_size=True)
    assert match_single_offer(wide_request).size == PixelSize(1536, 864)
    assert match_single_offer(wide_request).is_exact
    square_request = make_request(target=target_from_pixels(1024, 1024), has_explicit_size=True)
    assert match_single_offer(square_request, sizing=UNVERIFIED_SIZES).size == PresetSize("square_hd")
    assert match_single_offer(square_request, sizing=UNVERIFIED_SIZES).is_exact
    assert [
        substitution.name for substitution in match_single_offer(wide_request, sizing=UNVERIFIED_SIZES).substitutions
    ] == ["size_unverified"]
    assert match_single_offer(wide_request, sizing=RATIO_SIZES).size == RatioSize("16:9", "1k")
    assert [
        substitution.name for substitution in match_single_offer(wide_request, sizing=RATIO_SIZES).substitutions
    ] == ["size_by_ratio"]
    assert match_single_offer(structs.replace(wide_request, has_explicit_size=False), sizing=RATIO_SIZES).is_exact


def test_unoffered_ratio_is_excluded_with_reason() -> None:
    unusual_request = make_request(target=target_from_pixels(1360, 800))
    assert match_single_offer(unusual_request, sizing=RATIO_SIZES).reasons == ("cannot order 1360x800 (17:10)",)
    near_fit = match_single_offer(make_request(target=target_from_pixels(1536, 1040)), sizing=RATIO_SIZES)
    assert near_fit.size == RatioSize("3:2", "2k")
    assert [substitution.name for substitution in near_fit.substitutions] == ["ratio_nearest"]
    seven_to_four = match_single_offer(make_request(target=target_from_ratio("7:4", "1k")), sizing=RATIO_SIZES)
    assert (seven_to_four.size, seven_to_four.is_exact) == (RatioSize("16:9", "1k"), False)
    one_ratio = SizeOptions(ratios=(Ratio("16:9"),))
    assert match_single_offer(make_request(), sizing=one_ratio).reasons == ("cannot order 1024x1024 (1:1)",)
    square_4k = make_request(target=target_from_ratio("1:1", "4k"))
    assert match_single_offer(square_4k, sizing=RATIO_SIZES).reasons == ("cannot order 2880x2880 (1:1)",)


def test_assumed_quality_is_substitution_if_quality_was_requested() -> None:
    assumed_high = {"selectable_qualities": frozenset(), "assumed_quality": "high"}
    assert match_single_offer(make_request(), **assumed_high).is_exact
    for quality in QUALITIES:
        result = match_single_offer(make_request(quality=quality, has_explicit_quality=True), **assumed_high)
        assert [substitution.name for substitution in result.substitutions] == ["quality_not_selectable"]
    assert not match_single_offer(make_request(quality="low"), **assumed_high).is_exact


def test_all_mismatch_reasons_are_listed() -> None:
    edit = make_request(
        operation=Operation.EDIT,
        input_count=3,
        has_mask=True,
        quality="low",
    )
    misfit = match_single_offer(
        edit,
        account=make_account(None),
        supports_mask=False,
        max_inputs=2,
        selectable_qualities=frozenset({"high"}),
        prices={},
    )
    assert misfit.reasons == (
        "account a has no API key",
        "no price for edit 1k low",
        "quality low cannot be ordered",
        "does not support a mask",
        "supports at most 2 input images",
    )
    assert match_single_offer(edit, size_options={}).reasons == ("does not sell edit",)


def test_format_conversion_is_not_a_substitution() -> None:
    webp = make_request(output_format=Format.WEBP)
    plan_result = make_plan(
        make_catalogue([make_offer("one", make_uniform_prices(1), formats=frozenset())]), RoutingQuery(request=webp), {}
    )
    assert plan_result.ranked[0].fit.needs_conversion
    assert plan_result.ranked[0].fit.is_exact
    assert "images are converted by the gateway" in plan_result.ranked[0].reasons
    assert not match_single_offer(webp).needs_conversion


def test_unknown_model_has_no_offers() -> None:
    plan_result = make_plan(make_catalogue(ALL_OFFERS), RoutingQuery(request=make_request(model="nothing")), {})
    assert (plan_result.ranked, plan_result.excluded) == ((), ())


def test_fits_are_cached_and_cache_is_bounded() -> None:
    catalogue = make_catalogue(ALL_OFFERS)
    first = match_offers(catalogue, MODEL, fit_requirements(make_request()))
    assert match_offers(catalogue, MODEL, fit_requirements(make_request(prompt_bytes=7, n=7))) is first
    for number in range(MAX_CACHED_FITS + 10):
        match_offers(catalogue, MODEL, structs.replace(fit_requirements(make_request()), input_count=number))
    assert len(catalogue.fit_cache) <= MAX_CACHED_FITS


def test_each_model_has_its_own_fits() -> None:
    first_offer, second_offer = (
        make_offer("mine", make_uniform_prices(1)),
        make_offer("other", make_uniform_prices(2), model=OTHER_MODEL),
    )
    catalogue = make_catalogue([first_offer, second_offer])
    sellers = [
        [
            entry.fit.offer.seller.name
            for entry in make_plan(catalogue, RoutingQuery(request=make_request(model=model)), {}).ranked
        ]
        for model in (MODEL, OTHER_MODEL, MODEL)
    ]
    assert sellers == [["mine"], ["other"], ["mine"]]
