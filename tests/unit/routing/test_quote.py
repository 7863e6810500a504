"""Expected and highest cost of a request at a seller that bills by tokens."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.config.policy_schema import PolicyConfig
from gateway.config.value_types import Usd
from gateway.routing.plan import RoutingLimits, RoutingQuery, make_plan
from gateway.routing.quote import Quote
from providers.order_status import TokenUsage
from providers.orders import Operation
from tests.unit.routing.catalogue_factory import (
    TOKEN_PRICES,
    make_catalogue,
    make_offer,
    make_request,
    make_uniform_prices,
)

PRICE, CEILING = 10_000, 12_000
PRICES = {
    cell: structs.replace(price, ceiling=CEILING)
    for cell, price in make_offer("x", make_uniform_prices(PRICE)).prices.items()
}
TOKEN_PRICED_OFFER = structs.replace(
    make_offer("counted", make_uniform_prices(PRICE), token_prices=TOKEN_PRICES), prices=PRICES, images_per_order=4
)
IMAGE_PRICED_OFFER = make_offer("plain", make_uniform_prices(PRICE + 100), position=1)


def quote_request(**changes: object) -> Quote:
    plan_result = make_plan(make_catalogue([TOKEN_PRICED_OFFER]), RoutingQuery(request=make_request(**changes)), {})
    return plan_result.ranked[0].quote


def quote_edit(**changes: object) -> Quote:
    return quote_request(operation=Operation.EDIT, **changes)


def test_input_tokens_are_priced_once_per_order() -> None:
    expected, maximum = 1_000 * 5, (4_000 + 64) * 5
    for n, orders in ((1, 1), (4, 1), (5, 2), (9, 3)):
        quote = quote_request(prompt_bytes=4_000, n=n)
        assert (quote.orders, quote.total, quote.ceiling) == (
            orders,
            n * PRICE + orders * expected,
            n * CEILING + orders * maximum,
        )
    assert quote_request(prompt_bytes=4_000, n=3).per_image == PRICE + 1_667, "rounded up"


def test_prompt_tokens_are_estimated_from_bytes() -> None:
    assert quote_request(prompt_bytes=1_200).order_price == 300 * 5


def test_every_input_counts_and_mask_raises_ceiling() -> None:
    one_input, two_inputs = quote_edit(input_count=1), quote_edit(input_count=2)
    assert two_inputs.order_price - one_input.order_price == 1_024 * 8
    assert two_inputs.order_ceiling - one_input.order_ceiling == 7_000 * 8 + 64 * 5
    masked = quote_edit(input_count=1, has_mask=True)
    assert (masked.order_price, masked.order_ceiling) == (one_input.order_price, two_inputs.order_ceiling)


def test_offer_sets_max_tokens_per_input_image() -> None:
    cheap_inputs = structs.replace(TOKEN_PRICED_OFFER, token_prices=structs.replace(TOKEN_PRICES, image_tokens=100))
    edit_request = make_request(operation=Operation.EDIT, input_count=1)
    quote = make_plan(make_catalogue([cheap_inputs]), RoutingQuery(request=edit_request), {}).ranked[0].quote
    assert (quote.order_price, quote.order_ceiling) == (100 * 8, 100 * 8 + 2 * 64 * 5)


def test_long_prompt_makes_token_priced_seller_more_expensive() -> None:
    def rank_sellers(prompt_bytes: int, limits: RoutingLimits = RoutingLimits()) -> list[str]:  # noqa: B008 - immutable
        plan_result = make_plan(
            make_catalogue([TOKEN_PRICED_OFFER, IMAGE_PRICED_OFFER]),
            RoutingQuery(request=make_request(prompt_bytes=prompt_bytes), limits=limits),
            {},
        )
        return [entry.fit.offer.seller.name for entry in plan_result.ranked]

    assert rank_sellers(5) == ["counted", "plain"]
    assert rank_sellers(31_000) == ["plain", "counted"]
    assert rank_sellers(31_000, RoutingLimits(max_price=20_000)) == ["plain"]
    assert rank_sellers(31_000, RoutingLimits(max_cost=PRICE + 38_750)) == ["plain", "counted"]


def test_policy_limit_includes_input_tokens() -> None:
    catalogue = make_catalogue([TOKEN_PRICED_OFFER], {"it": PolicyConfig(rank="cost", max_price=Usd(PRICE + 4))})
    assert make_plan(catalogue, RoutingQuery(request=make_request(prompt_bytes=0)), {}).ranked
    assert not make_plan(catalogue, RoutingQuery(request=make_request(prompt_bytes=1)), {}).ranked


# Every byte may be a token, depending on tokenizer and prompt.
@given(
    prompt=st.text(max_size=60).map(str.encode),
    inputs=st.integers(1, 16),
    mask=st.booleans(),
    n=st.integers(1, 10),
    share=st.floats(0, 1),
)
def test_ceiling_covers_any_token_count(prompt: bytes, inputs: int, mask: bool, n: int, share: float) -> None:
    quote = quote_edit(prompt_bytes=len(prompt), input_count=inputs, has_mask=mask, n=n)
    assert quote.total <= quote.ceiling
    images = round(share * (inputs + mask) * 7_000)
    counted = TokenUsage(input_text=len(prompt) + 32, input_image=images, output=0)
    assert TOKEN_PRICES.compute_cost(counted) <= quote.order_ceiling
    assert n * CEILING + quote.orders * TOKEN_PRICES.compute_cost(counted) <= quote.ceiling
