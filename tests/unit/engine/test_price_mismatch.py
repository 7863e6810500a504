"""Whether a charge differs from the configured price: exactly for prices per image, above the tokens for the others."""

import pytest
from msgspec.structs import replace

from gateway.engine.finished_order_cost import compute_expected_cost, is_price_mismatch
from gateway.jobs.job import Attempt, AttemptState, Job, TokenCount
from tests.unit.jobs.job_scenario import START, JobScenario, make_new_job, make_route_entry
from tests.unit.routing.catalogue_factory import TOKEN_PRICES, make_offer, make_uniform_prices

PRICE, CEILING, HOLD_PER_ORDER, ORDER_PRICE = 5_850, 6_000, 500, 55
FLAT_OFFER = make_offer("flat", make_uniform_prices(PRICE))
TOKEN_OFFER = make_offer("tokens", make_uniform_prices(PRICE), token_prices=TOKEN_PRICES)
ATTEMPT = Attempt(
    number=1, route_index=0, images=(0, 1), started_at=START, state=AttemptState.CLOSED, delivered_count=2
)
# Nine real tokens of a prompt that was estimated at eleven, and other images than those of the estimate.
TOKENS = TokenCount(attempt=1, text=9, image=0, output=2 * 152)
TOKEN_COST = 9 * 5 + 2 * 152 * 30


def make_job(*token_counts: TokenCount) -> Job:
    route = (make_route_entry("seller", price=PRICE, ceiling=CEILING),)
    job = JobScenario(make_new_job(n=2, route=route)).job
    return replace(
        job,
        attempts=(ATTEMPT,),
        hold_per_order=HOLD_PER_ORDER,
        order_prices=(ORDER_PRICE,),
        token_counts=token_counts,
    )


@pytest.mark.parametrize(
    ("token_counts", "highest_cost"),
    [((TOKENS,), TOKEN_COST), ((), 2 * CEILING + HOLD_PER_ORDER)],
    ids=["counted", "not counted"],
)
def test_charge_by_tokens_differs_only_if_it_is_above_them(
    token_counts: tuple[TokenCount, ...], highest_cost: int
) -> None:
    expected = compute_expected_cost(make_job(*token_counts), ATTEMPT, TOKEN_OFFER)
    assert expected == highest_cost
    assert not any(is_price_mismatch(cost, expected, TOKEN_OFFER) for cost in (0, highest_cost - 1, highest_cost))
    assert is_price_mismatch(highest_cost + 1, expected, TOKEN_OFFER)


def test_tokens_of_another_attempt_prove_nothing() -> None:
    other = replace(TOKENS, attempt=2)
    assert compute_expected_cost(make_job(other), ATTEMPT, TOKEN_OFFER) == 2 * CEILING + HOLD_PER_ORDER


def test_price_per_image_is_exact() -> None:
    expected = compute_expected_cost(replace(make_job(), order_prices=()), ATTEMPT, FLAT_OFFER)
    assert expected == 2 * PRICE
    assert [is_price_mismatch(expected + change, expected, FLAT_OFFER) for change in (-1, 0, 1)] == [True, False, True]
