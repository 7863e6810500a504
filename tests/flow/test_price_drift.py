"""A seller charges another price than configured: it is reported, and believed if the configuration says so."""

from collections.abc import Iterator

import pytest

from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUN, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import OrderFlow

CELL = {"seller": RUNFLOW_RUNS, "operation": "generate", "resolution": "1k", "quality": "low"}
# Sellers that do not say what they charge.
OTHERS = [OPENAI, RUNFLOW_RUN]
CONFIGURED_PRICE, CHARGED_PRICE = 9_000, 133_000
gateway_and_store = make_gateway_fixture(GatewaySetup(routing={"believe_charged_prices": True}))


@pytest.fixture(autouse=True)
def flat_price(flow: OrderFlow) -> Iterator[None]:
    """Runflow charges $0.133 for each image, whatever its quality, as one of its pages says."""
    with flow.sandbox.override_switches("runflow", price="flat"):
        yield


def test_seller_that_charges_more_is_reported_at_once_and_ranked_by_its_charges(flow: OrderFlow) -> None:
    log_length = len(flow.gateway.read_log_lines())
    jobs = [flow.run_job(provider={"ignore": OTHERS}) for _ in range(5)]
    [first, *_] = [line for line in flow.gateway.read_log_lines()[log_length:] if line["event"] == "price mismatch"]
    assert (first["job"], first["seller"]) == (jobs[0]["id"], RUNFLOW_RUNS)
    assert first["cell"] == ["generate", "1k", "low"]
    assert (first["expected_price"], first["charged_price"]) == (CONFIGURED_PRICE, CHARGED_PRICE)
    assert flow.gateway.read_metric("igw_price_mismatches_total", **CELL) == 3

    sellers = [get_attempted_sellers(job) for job in jobs]
    assert sellers == [[RUNFLOW_RUNS]] * 3 + [[RUNAPI]] * 2
    quote = flow.gateway.request_quote(quality="low", provider={"ignore": OTHERS})
    dear = next(entry for entry in quote["ranked"] if entry["seller"] == RUNFLOW_RUNS)
    assert quote["winner"]["seller"] == RUNAPI
    assert (dear["price"], dear["signals"]["charged_price"]) == (CHARGED_PRICE / 1_000_000, CHARGED_PRICE)
    assert dear["ceiling"] >= CHARGED_PRICE / 1_000_000
    assert "charges $0.133 per image, configured are $0.009" in dear["reasons"]


def test_hold_covers_what_the_seller_charges(flow: OrderFlow) -> None:
    """The team pays the whole charge, and nothing is booked as excess, once the price is known."""
    for _ in range(3):
        flow.order_images(RUNFLOW_RUNS, quality="medium")
    flow.read_ledger_entries()
    before = flow.sum_ledger_by_line()
    flow.order_images(RUNFLOW_RUNS, quality="medium")
    after = flow.sum_ledger_by_line()
    assert after[RUNFLOW_RUNS, "capture"] - before[RUNFLOW_RUNS, "capture"] == CHARGED_PRICE
    assert after.get((RUNFLOW_RUNS, "excess")) == before.get((RUNFLOW_RUNS, "excess"))


def test_seller_billed_by_tokens_may_count_others_than_estimated(flow: OrderFlow) -> None:
    """Its tokens depend on the pixels and on its tokenizer, so what it charges is hardly ever the estimate."""
    labels = {**CELL, "seller": OPENAI}
    log_length = len(flow.gateway.read_log_lines())
    jobs = [flow.order_images(OPENAI, size=size) for size in ("1536x1024", "1024x1536", "1024x1024")]
    jobs.append(flow.order_images(OPENAI, size="1536x1024", prompt="a lighthouse of 灯台 " * 20))
    quote = flow.gateway.request_quote(quality="low", provider={"only": [OPENAI]})
    assert {job["usage"]["cost"] for job in jobs} - {quote["ranked"][0]["price"]}
    lines = flow.gateway.read_log_lines()[log_length:]
    assert [line for line in lines if line["event"] == "price mismatch"] == []
    assert flow.gateway.read_metric("igw_price_mismatches_total", **labels) == 0
