"""The tokens of an answer: those that its sellers counted, and zeros in OpenAI's form where they count none."""

import base64
from typing import Any

import pytest
from openai.types.images_response import ImagesResponse

from tests.clients.openai_python import bill
from tests.clients.pictures import drawn
from tests.flow.gateways import Flow

NONE = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def usage_of(answer: dict[str, Any]) -> Any:
    """As OpenAI's own type has it, which is read strictly here: the SDK itself would let anything pass."""
    return ImagesResponse.model_validate(answer, strict=True).usage


def test_usage_has_the_tokens_that_the_seller_counted(flow: Flow) -> None:
    body = {"prompt": "x", "n": 3, "quality": "low", "provider": {"only": ["openai"]}}
    answer = flow.gateway.generate(body)
    usage = usage_of(answer.json())
    assert usage.output_tokens > 0
    assert usage.input_tokens_details.text_tokens > 0
    assert round(bill(usage)) == round(usage.cost * 1_000_000) == sum(flow.invoiced().values())
    assert answer.headers["x-litellm-response-cost"] == answer.headers["x-igw-cost-usd"]
    job = flow.gateway.job(answer.headers["x-igw-job-id"])
    assert job["usage"] == answer.json()["usage"]


def test_usage_of_an_edit_tells_tokens_of_the_input_images(flow: Flow) -> None:
    image = {"b64_json": base64.b64encode(drawn(512, 512)).decode()}
    job = flow.buy("openai", operation="edit", image=[image, image])
    assert job["usage"]["input_tokens_details"]["image_tokens"] == 2 * 256
    assert job["usage"]["total_tokens"] == job["usage"]["input_tokens"] + job["usage"]["output_tokens"]


@pytest.mark.parametrize("seller", ["runflow-runs", "runflow-run", "runapi"])
def test_usage_of_sellers_without_tokens_is_zero_and_complete(flow: Flow, seller: str) -> None:
    answer = flow.gateway.generate({"prompt": "x", "quality": "low", "provider": {"only": [seller]}}).json()
    assert usage_of(answer).cost > 0
    assert {name: value for name, value in answer["usage"].items() if name != "cost"} == NONE


def test_usage_without_a_tokens_count_from_the_seller_is_zero(flow: Flow) -> None:
    with flow.sandbox.switched("openai", usage=False):
        job = flow.buy("openai")
    assert {name: value for name, value in job["usage"].items() if name != "cost"} == NONE
    assert job["usage"]["cost"] > 0


def test_usage_of_a_failed_job_is_zero_and_complete(flow: Flow) -> None:
    flow.sandbox.fault("refuse_content", vendor="runapi", times=1)
    assert flow.buy("runapi")["usage"] == {**NONE, "cost": 0}
