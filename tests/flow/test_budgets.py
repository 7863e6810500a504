"""A team's budget holds at sellers that charge by tokens: prompt and input images are held as well as output images."""

from typing import Any

import httpx
import pytest

from tests.flow.flow_config import FORTY_CENT_BUDGET_KEY, QUOTED_BUDGET_KEY, SELLERS, TEN_CENT_BUDGET_KEY
from tests.flow.order_flow import OrderFlow
from tests.flow.order_times import run_concurrently

OPENAI = SELLERS[-1]
CENT_MICROS = 10_000
BUDGET_MICROS, LARGER_BUDGET_MICROS = 10 * CENT_MICROS, 40 * CENT_MICROS
IMAGE_MICROS, LONG_PROMPT_LENGTH = 5_850, 31_000
# The sandbox counts one token per four bytes of the prompt. The gateway holds one per byte, and 64 more.
# A text token costs 5 micro-USD.
BILLED_MICROS, HELD_MICROS = IMAGE_MICROS + LONG_PROMPT_LENGTH // 4 * 5, IMAGE_MICROS + (LONG_PROMPT_LENGTH + 64) * 5


def post_openai_job(flow: OrderFlow, key: str, prompt: str) -> httpx.Response:
    body: dict[str, Any] = {"prompt": prompt, "quality": "low", "provider": {"only": [OPENAI]}}
    return flow.gateway.post_job(body, key=key)


def make_prompts(length: int) -> list[str]:
    return [f"{number:02} ".ljust(length, "x") for number in range(12)]


def sum_captures(flow: OrderFlow) -> int:
    return flow.sum_ledger_by_line().get((OPENAI, "capture"), 0)


@pytest.mark.thorough
def test_concurrent_long_prompts_cannot_exceed_the_budget(flow: OrderFlow) -> None:
    answers = run_concurrently(12, lambda: post_openai_job(flow, TEN_CENT_BUDGET_KEY, "x" * LONG_PROMPT_LENGTH))
    assert HELD_MICROS > BUDGET_MICROS
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {(429, "insufficient_quota")}
    assert (sum_captures(flow), flow.count_orders(OPENAI)) == (0, 0)
    texts = iter(make_prompts(3_000))
    answers = run_concurrently(12, lambda: post_openai_job(flow, TEN_CENT_BUDGET_KEY, next(texts)))
    accepted = [answer for answer in answers if answer.status_code == 200]
    assert len(accepted) >= BUDGET_MICROS // (IMAGE_MICROS + 3_064 * 5) == 4, [answer.text for answer in answers]
    assert sum_captures(flow) == len(accepted) * (IMAGE_MICROS + 750 * 5) <= BUDGET_MICROS


def test_requests_are_accepted_while_their_maximum_cost_fits_the_budget(flow: OrderFlow) -> None:
    answers = [post_openai_job(flow, FORTY_CENT_BUDGET_KEY, prompt) for prompt in make_prompts(LONG_PROMPT_LENGTH)]
    fit = (LARGER_BUDGET_MICROS - HELD_MICROS) // BILLED_MICROS + 1
    assert [answer.status_code for answer in answers] == [200] * fit + [429] * (12 - fit)
    assert sum_captures(flow) == fit * BILLED_MICROS == 267_600


def test_charge_above_the_held_amount_is_booked_as_excess_not_to_the_team(flow: OrderFlow) -> None:
    """The offer's price is too low for such a large image."""
    job = flow.order_images(OPENAI, size="3584x2048")
    held, billed = IMAGE_MICROS + (20 + 64) * 5, 342 * 30 + 5 * 5
    assert flow.sum_ledger_by_line() == {(OPENAI, "capture"): held, (OPENAI, "excess"): billed - held}
    assert job["usage"]["cost"] == 0.00627


def test_quote_shows_whether_the_budget_suffices(flow: OrderFlow) -> None:
    """The quote holds what the order would hold: both are refused or accepted together."""
    for prompt in make_prompts(LONG_PROMPT_LENGTH):
        body = {"prompt": prompt, "quality": "low", "provider": {"only": [OPENAI]}}
        headers = {"authorization": f"Bearer {QUOTED_BUDGET_KEY}"}
        quote = flow.gateway.http.post("/v1/quotes", json=body, headers=headers).json()
        [budget] = quote["budgets"]
        assert budget["hold"] == HELD_MICROS / 1_000_000
        assert budget["left"] == pytest.approx(budget["limit"] - budget["spent"] - budget["held"])
        answer = post_openai_job(flow, QUOTED_BUDGET_KEY, prompt)
        assert budget["sufficient"] is (answer.status_code == 200)
        shortage = [warning for warning in quote["warnings"] if warning.startswith("budget_exceeded: ")]
        assert bool(shortage) is not budget["sufficient"]
    assert (answer.status_code, budget["limit"]) == (429, 0.4)
    assert f"left for the day {budget['window']}" in shortage[0]
    assert quote["ranked"], "the plan is shown nevertheless"
