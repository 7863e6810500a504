"""How an offer would take a request, what it would only come near to, and why it would not take it at all."""

from typing import Any

from msgspec import structs

from gateway.config.blocks import Sizing
from gateway.config.values import Ratio
from gateway.routing.fit import MOST_REMEMBERED, fits, wants_of
from gateway.routing.plan import Question, plan
from providers.orders import Format, ImageRequest, Inline, Operation, Pixels, Preset, Quality, Shape
from providers.sizes import Resolution, target_of_pixels, target_of_shape
from tests.unit.routing.catalogues import (
    BY_RATIO,
    MODEL,
    OTHER_MODEL,
    UNVERIFIED,
    account,
    catalogue,
    everywhere,
    offer,
    request,
)

ALL = [offer(name, everywhere(10_000), position=place) for place, name in enumerate(("a", "b", "c"))]


def fit_of(wanted: ImageRequest, **how: Any) -> Any:
    prices = how.pop("prices", everywhere(1))
    return fits(catalogue([offer("one", prices, **how)]), MODEL, wants_of(wanted))[0]


def test_sizes_are_addressed_as_faithfully_as_can_be() -> None:
    wide = request(target=target_of_pixels(1536, 864), pixels_asked=True)
    assert fit_of(wide).size == Pixels(1536, 864)
    assert fit_of(wide).exact
    square = request(target=target_of_pixels(1024, 1024), pixels_asked=True)
    assert fit_of(square, sizing=UNVERIFIED).size == Preset("square_hd")
    assert fit_of(square, sizing=UNVERIFIED).exact
    assert [one.name for one in fit_of(wide, sizing=UNVERIFIED).substitutions] == ["size_unverified"]
    assert fit_of(wide, sizing=BY_RATIO).size == Shape("16:9", Resolution.ONE_K)
    assert [one.name for one in fit_of(wide, sizing=BY_RATIO).substitutions] == ["size_by_ratio"]
    assert fit_of(structs.replace(wide, pixels_asked=False), sizing=BY_RATIO).exact


def test_a_ratio_that_is_not_offered_is_out_with_a_reason() -> None:
    odd = request(target=target_of_pixels(1360, 800))
    assert fit_of(odd, sizing=BY_RATIO).reasons == ("cannot express 1360x800 (17:10)",)
    near = fit_of(request(target=target_of_pixels(1536, 1040)), sizing=BY_RATIO)
    assert near.size == Shape("3:2", Resolution.TWO_K)
    assert [one.name for one in near.substitutions] == ["ratio_nearest"]
    seven_to_four = fit_of(request(target=target_of_shape("7:4", Resolution.ONE_K)), sizing=BY_RATIO)
    assert (seven_to_four.size, seven_to_four.exact) == (Shape("16:9", Resolution.ONE_K), False)
    few = Sizing(ratios=(Ratio("16:9"),))
    assert fit_of(request(), sizing=few).reasons == ("cannot express 1024x1024 (1:1)",)
    square_4k = request(target=target_of_shape("1:1", Resolution.FOUR_K))
    assert fit_of(square_4k, sizing=BY_RATIO).reasons == ("cannot express 2880x2880 (1:1)",)


def test_a_believed_quality_is_a_substitution_once_a_quality_is_asked_for() -> None:
    believed = {"selectable": frozenset(), "assumes": Quality.HIGH}
    assert fit_of(request(), **believed).exact
    for quality in Quality:
        asked = fit_of(request(quality=quality, quality_asked=True), **believed)
        assert [one.name for one in asked.substitutions] == ["quality_not_selectable"]
    assert not fit_of(request(quality=Quality.LOW), **believed).exact


def test_everything_that_keeps_an_offer_out_is_told() -> None:
    edit = request(
        operation=Operation.EDIT, sources=(Inline(b"", "", ""),) * 3, mask=Inline(b"", "", ""), quality=Quality.LOW
    )
    misfit = fit_of(
        edit,
        account=account(None),
        mask=False,
        inputs=2,
        selectable=frozenset({Quality.HIGH}),
        prices={},
    )
    assert misfit.reasons == (
        "account a has no key",
        "no price for edit 1k low",
        "quality low cannot be ordered",
        "takes no mask",
        "takes 2 input images at most",
    )
    assert fit_of(edit, sizings={}).reasons == ("does not sell edit",)


def test_a_format_that_cannot_be_ordered_is_converted_and_no_substitution() -> None:
    webp = request(output_format=Format.WEBP)
    made = plan(catalogue([offer("one", everywhere(1), formats=frozenset())]), Question(request=webp), {})
    assert made.ranked[0].fit.converts
    assert made.ranked[0].fit.exact
    assert "its pictures are converted here" in made.ranked[0].reasons
    assert not fit_of(webp).converts


def test_an_unknown_model_has_no_offers() -> None:
    made = plan(catalogue(ALL), Question(request=request(model="nothing")), {})
    assert (made.ranked, made.excluded) == ((), ())


def test_fits_are_worked_out_once_and_not_hoarded() -> None:
    made = catalogue(ALL)
    first = fits(made, MODEL, wants_of(request()))
    assert fits(made, MODEL, wants_of(request(prompt="another", n=7))) is first
    for number in range(MOST_REMEMBERED + 10):
        fits(made, MODEL, structs.replace(wants_of(request()), inputs=number))
    assert len(made.memory) <= MOST_REMEMBERED


def test_each_model_has_its_own_fits() -> None:
    mine, other = offer("mine", everywhere(1)), offer("other", everywhere(2), model=OTHER_MODEL)
    made = catalogue([mine, other])
    sellers = [
        [one.fit.offer.seller.name for one in plan(made, Question(request=request(model=model)), {}).ranked]
        for model in (MODEL, OTHER_MODEL, MODEL)
    ]
    assert sellers == [["mine"], ["other"], ["mine"]]
