"""A team's budget holds where the seller bills by tokens: prompt and inputs are set aside as well as the images."""

from typing import Any

import httpx

from tests.flow.asked import at_once
from tests.flow.configuration import CAREFUL_KEY, SELLERS, THRIFTY_KEY
from tests.flow.gateways import Flow

OPENAI = SELLERS[-1]
CENT = 10_000
BUDGET, LARGER_BUDGET = 10 * CENT, 40 * CENT
IMAGE, LONG = 5_850, 31_000
# The sandbox counts a token for every four bytes of the prompt; set aside is one for every byte, and 64 more.
# A token of text costs 5 micro-USD.
BILLED, SET_ASIDE = IMAGE + LONG // 4 * 5, IMAGE + (LONG + 64) * 5


def ask(flow: Flow, key: str, prompt: str) -> httpx.Response:
    body: dict[str, Any] = {"prompt": prompt, "quality": "low", "provider": {"only": [OPENAI]}}
    return flow.gateway.ask(body, key=key)


def prompts(length: int) -> list[str]:
    return [f"{number:02} ".ljust(length, "x") for number in range(12)]


def captured(flow: Flow) -> int:
    return flow.booked().get((OPENAI, "capture"), 0)


def test_twelve_long_prompts_do_not_pass_a_budget_that_none_of_them_fits_into(flow: Flow) -> None:
    answers = at_once(12, lambda: ask(flow, CAREFUL_KEY, "x" * LONG))
    assert SET_ASIDE > BUDGET
    assert {(one.status_code, one.json()["error"]["code"]) for one in answers} == {(429, "insufficient_quota")}
    assert (captured(flow), flow.orders(OPENAI)) == (0, 0)
    texts = iter(prompts(3_000))
    answers = at_once(12, lambda: ask(flow, CAREFUL_KEY, next(texts)))
    done = [one for one in answers if one.status_code == 200]
    assert len(done) >= BUDGET // (IMAGE + 3_064 * 5) == 4, "as many as fit beside each other"
    assert captured(flow) == len(done) * (IMAGE + 750 * 5) <= BUDGET


def test_a_budget_is_used_as_far_as_the_most_that_is_conceivable_fits_into_it(flow: Flow) -> None:
    answers = [ask(flow, THRIFTY_KEY, prompt) for prompt in prompts(LONG)]
    fit = (LARGER_BUDGET - SET_ASIDE) // BILLED + 1
    assert [one.status_code for one in answers] == [200] * fit + [429] * (12 - fit)
    assert captured(flow) == fit * BILLED == 267_600


def test_what_a_seller_bills_beyond_what_was_set_aside_is_not_the_teams_to_pay(flow: Flow) -> None:
    """The offer's estimate for such a large picture is too low."""
    job = flow.buy(OPENAI, size="3584x2048")
    set_aside, billed = IMAGE + (20 + 64) * 5, 342 * 30 + 5 * 5
    assert flow.booked() == {(OPENAI, "capture"): set_aside, (OPENAI, "excess"): billed - set_aside}
    assert job["usage"]["cost"] == 0.00627
