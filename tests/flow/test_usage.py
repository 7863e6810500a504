"""Token usage in responses: the seller's counts, or zeros in OpenAI's form."""

from typing import Any

import pytest
from openai.types.images_response import ImagesResponse

from tests.clients.openai_sdk import compute_cost_micros
from tests.flow.order_flow import OrderFlow
from tests.harness.sample_images import encode_b64_json, make_image

NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def parse_usage(answer: dict[str, Any]) -> Any:
    """Parses the response strictly with OpenAI's own type. The SDK itself accepts anything."""
    return ImagesResponse.model_validate(answer, strict=True).usage


def test_usage_has_the_tokens_counted_by_the_seller(flow: OrderFlow) -> None:
    body = {"prompt": "x", "n": 3, "quality": "low", "provider": {"only": ["openai"]}}
    answer = flow.gateway.post_generation(body)
    usage = parse_usage(answer.json())
    assert usage.output_tokens > 0
    assert usage.input_tokens_details.text_tokens > 0
    assert (
        round(compute_cost_micros(usage)) == round(usage.cost * 1_000_000) == sum(flow.sum_invoice_by_vendor().values())
    )
    assert answer.headers["x-litellm-response-cost"] == answer.headers["x-igw-cost-usd"]
    job = flow.gateway.get_job(answer.headers["x-igw-job-id"])
    assert job["usage"] == answer.json()["usage"]


def test_usage_of_an_edit_includes_input_image_tokens(flow: OrderFlow) -> None:
    image = encode_b64_json(make_image(512, 512))
    job = flow.order_images("openai", operation="edit", image=[image, image])
    assert job["usage"]["input_tokens_details"]["image_tokens"] == 2 * 256
    assert job["usage"]["total_tokens"] == job["usage"]["input_tokens"] + job["usage"]["output_tokens"]


@pytest.mark.parametrize("seller", ["runflow-runs", "runflow-run", "runapi"])
def test_usage_of_sellers_without_token_counts_is_complete_and_zero(flow: OrderFlow, seller: str) -> None:
    answer = flow.gateway.post_generation({"prompt": "x", "quality": "low", "provider": {"only": [seller]}}).json()
    assert parse_usage(answer).cost > 0
    assert {name: value for name, value in answer["usage"].items() if name != "cost"} == NO_TOKENS


def test_usage_is_zero_when_the_seller_omits_token_counts(flow: OrderFlow) -> None:
    with flow.sandbox.override_switches("openai", usage=False):
        job = flow.order_images("openai")
    assert {name: value for name, value in job["usage"].items() if name != "cost"} == NO_TOKENS
    assert job["usage"]["cost"] > 0


def test_usage_of_a_failed_job_is_complete_and_zero(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("refuse_content", vendor="runapi", times=1)
    assert flow.order_images("runapi")["usage"] == {**NO_TOKENS, "cost": 0}
