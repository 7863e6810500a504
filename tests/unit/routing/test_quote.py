"""What a request is expected to cost, and the most that is conceivable, where a seller bills by tokens."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.config.blocks import PolicyConfig
from gateway.config.values import Usd
from gateway.routing.plan import Limits, Question, plan
from gateway.routing.quote import Quote
from providers.orders import Inline, Operation
from providers.progress import TokenUsage
from tests.unit.routing.catalogues import BY_TOKENS, catalogue, everywhere, offer, request

AN_INPUT = Inline(b"", "image/png", "")
PRICE, CEILING = 10_000, 12_000
PRICES = {cell: structs.replace(price, ceiling=CEILING) for cell, price in offer("x", everywhere(PRICE)).prices.items()}
COUNTED = structs.replace(offer("counted", everywhere(PRICE), tokens=BY_TOKENS), prices=PRICES, images_per_order=4)
PLAIN = offer("plain", everywhere(PRICE + 100), position=1)


def quoted(**changes: object) -> Quote:
    made = plan(catalogue([COUNTED]), Question(request=request(**changes)), {})
    return made.ranked[0].quote


def edit(**changes: object) -> Quote:
    return quoted(operation=Operation.EDIT, **changes)


def test_prompt_and_inputs_come_on_top_of_the_images_once_for_each_order() -> None:
    expected, most = 1_000 * 5, (4_000 + 64) * 5
    for n, orders in ((1, 1), (4, 1), (5, 2), (9, 3)):
        quote = quoted(prompt="x" * 4_000, n=n)
        assert (quote.orders, quote.total, quote.hold) == (
            orders,
            n * PRICE + orders * expected,
            n * CEILING + orders * most,
        )
    assert quoted(prompt="x" * 4_000, n=3).per_image == PRICE + 1_667, "rounded up"


def test_bytes_of_the_prompt_count_and_not_its_letters() -> None:
    assert quoted(prompt="灯" * 400).order_price == quoted(prompt="x" * 1_200).order_price == 300 * 5


def test_every_input_counts_and_the_mask_at_the_most() -> None:
    one, two = edit(sources=(AN_INPUT,)), edit(sources=(AN_INPUT,) * 2)
    assert two.order_price - one.order_price == 1_024 * 8
    assert two.order_ceiling - one.order_ceiling == 7_000 * 8 + 64 * 5
    masked = edit(sources=(AN_INPUT,), mask=AN_INPUT)
    assert (masked.order_price, masked.order_ceiling) == (one.order_price, two.order_ceiling)


def test_an_offer_says_how_much_an_input_image_is_at_the_most() -> None:
    few = structs.replace(COUNTED, tokens=structs.replace(BY_TOKENS, image_tokens=100))
    asked = request(operation=Operation.EDIT, sources=(AN_INPUT,))
    quote = plan(catalogue([few]), Question(request=asked), {}).ranked[0].quote
    assert (quote.order_price, quote.order_ceiling) == (100 * 8, 100 * 8 + 2 * 64 * 5)


def test_a_long_prompt_makes_a_seller_that_bills_by_tokens_the_dearer_one() -> None:
    def sellers(prompt: str, limits: Limits = Limits()) -> list[str]:  # noqa: B008 - immutable
        made = plan(catalogue([COUNTED, PLAIN]), Question(request=request(prompt=prompt), limits=limits), {})
        return [one.fit.offer.seller.name for one in made.ranked]

    assert sellers("short") == ["counted", "plain"]
    assert sellers("x" * 31_000) == ["plain", "counted"]
    assert sellers("x" * 31_000, Limits(max_price=20_000)) == ["plain"]
    assert sellers("x" * 31_000, Limits(max_cost=PRICE + 38_750)) == ["plain", "counted"]


def test_a_policys_limit_counts_what_goes_in() -> None:
    made = catalogue([COUNTED], {"it": PolicyConfig(rank="cost", max_price=Usd(PRICE + 4))})
    assert plan(made, Question(request=request(prompt="")), {}).ranked
    assert not plan(made, Question(request=request(prompt="x")), {}).ranked


# Any byte may be a token of its own, for some tokenizer and some prompt.
@given(
    prompt=st.text(max_size=60),
    inputs=st.integers(1, 16),
    mask=st.booleans(),
    n=st.integers(1, 10),
    share=st.floats(0, 1),
)
def test_the_most_that_is_conceivable_is_enough_for_whatever_is_counted(
    prompt: str, inputs: int, mask: bool, n: int, share: float
) -> None:
    quote = edit(prompt=prompt, sources=(AN_INPUT,) * inputs, mask=AN_INPUT if mask else None, n=n)
    assert quote.total <= quote.hold
    images = round(share * (inputs + mask) * 7_000)
    counted = TokenUsage(input_text=len(prompt.encode()) + 32, input_image=images, output=0)
    assert BY_TOKENS.charge(counted) <= quote.order_ceiling
    assert n * CEILING + quote.orders * BY_TOKENS.charge(counted) <= quote.hold
