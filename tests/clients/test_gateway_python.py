"""OpenAI's Python SDK against the gateway: images, errors, retries, and the gateway's own parameters."""

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any, get_type_hints
from uuid import uuid4

import openai
import pytest
from openai.types.responses.tool_param import ImageGeneration

from gateway.api.parameter_definition import get_parameters
from gateway.api.parameter_table import EditRequest, GenerationRequest, ImageParams
from gateway.api.responses_api.image_tool_reader import TOOL_PARAMETERS
from tests.clients.openai_sdk import MODEL, make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image
from tests.harness.wait import wait_until


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The SDK with its defaults, including retries."""
    with make_gateway_client(gateway) as client:
        yield client


@pytest.fixture
def count_requests(gateway: RunningGateway) -> Any:
    """Counts the requests that the SDK has made since."""
    before = len(read_request_lines(gateway))
    return lambda: len(read_request_lines(gateway)) - before


def read_request_lines(gateway: RunningGateway) -> list[dict[str, Any]]:
    # A line is written a moment after its response; the next response's line follows it.
    marker = gateway.http.get(f"/nothing-{uuid4()}").headers["x-request-id"]
    wait_until(lambda: marker in {line.get("id") for line in gateway.read_log_lines()[-20:]}, "the marker is logged")
    return [line for line in gateway.read_log_lines() if line.get("route") == "/v1/images/generations"]


@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "2048x1152", "auto"])
def test_generated_images_have_the_reported_size(openai_client: openai.OpenAI, size: str) -> None:
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", size=size, n=2)  # type: ignore[arg-type]
    images = [decode_image(image.b64_json) for image in answer.data or []]
    assert ["{}x{}".format(*decoded.size) for decoded in images] == [answer.size] * 2
    assert answer.output_format == "png"
    assert answer._request_id


def test_prompt_alone_and_all_other_fields_null_are_accepted(openai_client: openai.OpenAI) -> None:
    assert decode_image(openai_client.images.generate(prompt="a lighthouse").data[0].b64_json)  # type: ignore[index]
    names = "model n size quality background output_format moderation stream response_format safety_identifier user"
    assert openai_client.images.generate(prompt="a lighthouse", **dict.fromkeys(names.split())).data


SDK_OPTIONS = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}


@pytest.mark.parametrize(
    ("method", "body_type"),
    [(openai.resources.Images.generate, GenerationRequest), (openai.resources.Images.edit, EditRequest)],
    ids=["generate", "edit"],
)
def test_every_parameter_of_the_sdk_is_in_the_parameter_table(
    method: Callable[..., Any], body_type: type[ImageParams]
) -> None:
    """So the gateway applies, maps or refuses each of them with a reason; none is an unknown parameter."""
    assert set(signature(method).parameters) - SDK_OPTIONS <= set(get_parameters(body_type))


def test_every_parameter_of_the_image_tool_is_in_the_parameter_table() -> None:
    parameters = set(get_type_hints(ImageGeneration)) - {"type", "action", "input_image_mask"}
    assert parameters <= set(TOOL_PARAMETERS)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_images_have_the_requested_output_format(openai_client: openai.OpenAI, kind: Any) -> None:
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", output_format=kind)
    assert decode_image(answer.data[0].b64_json).format == kind.upper()  # type: ignore[index]


def test_images_are_returned_as_urls_on_request(openai_client: openai.OpenAI) -> None:
    answer = openai_client.images.generate(model=MODEL, prompt="a lighthouse", response_format="url")
    assert (answer.data[0].url or "").startswith("http")  # type: ignore[index]


def test_gateway_parameters_and_headers_pass_through_the_sdk(
    gateway: RunningGateway, openai_client: openai.OpenAI
) -> None:
    extra = {
        "resolution": "2k",
        "aspect_ratio": "16:9",
        "policy": "steady",
        "max_price": "0.15",
        "max_cost": 0.5,
        "provider": {"only": ["runapi"]},
        "metadata": {"campaign": "spring"},
    }
    raw = openai_client.images.with_raw_response.generate(model=MODEL, prompt="a lighthouse", n=2, extra_body=extra)
    answer = raw.parse()
    width, height = map(int, (answer.size or "").split("x"))
    assert abs(width / height - 16 / 9) < 0.05
    assert width * height > 1_572_864
    assert raw.headers["x-igw-seller"] == "runapi"
    assert raw.headers["x-igw-cost-usd"] == "0.20"
    assert raw.headers["x-igw-attempts"] == "2"
    assert int(raw.headers["x-igw-overhead-ms"]) < 5_000
    assert answer.usage.cost == 0.2  # type: ignore[union-attr]
    job = gateway.http.get(f"/v1/jobs/{raw.headers['x-igw-job-id']}").json()
    assert job["usage"]["cost"] == 0.2


MISTAKES: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str | None]] = {
    "multiples of 16": ({"size": "17x17"}, openai.BadRequestError, "invalid_value", "size"),
    "at most 10": ({"n": 11}, openai.BadRequestError, "invalid_value", "n"),
    "did you mean 'prompt'": ({"promt": "x"}, openai.BadRequestError, "unknown_parameter", "promt"),
    "gpt-image-2": ({"model": "no/such"}, openai.NotFoundError, "model_not_found", "model"),
    "$0.06 per image is above $0.001": ({"max_price": 0.001}, openai.BadRequestError, "no_offer", None),
    "cheapest": ({"policy": "no"}, openai.BadRequestError, "invalid_value", "policy"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_invalid_requests_raise_sdk_exceptions_with_the_gateways_message(
    openai_client: openai.OpenAI, count_requests: Any, words: str
) -> None:
    invalid_fields, error, code, param = MISTAKES[words]
    with pytest.raises(error) as raised:
        openai_client.images.generate(**{"model": MODEL, "prompt": "a lighthouse", "extra_body": invalid_fields})
    assert (raised.value.code, raised.value.param) == (code, param)
    assert words in raised.value.message
    assert (raised.value.request_id or "").startswith("req_")
    assert count_requests() == 1, "the SDK retried a final error"


def test_invalid_key_raises_authentication_error_once(gateway: RunningGateway, count_requests: Any) -> None:
    with (
        make_gateway_client(gateway, api_key="igw_nobody") as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.images.generate(prompt="a lighthouse")
    assert raised.value.code == "invalid_api_key"
    assert count_requests() == 1


def test_content_refusal_raises_bad_request_once(
    gateway: RunningGateway, openai_client: openai.OpenAI, count_requests: Any
) -> None:
    gateway.sandbox.inject_fault("refuse_content", times=1)
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.generate(prompt="a lighthouse")
    assert (raised.value.code, raised.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert count_requests() == 1


def test_failure_of_all_sellers_is_a_final_424(
    gateway: RunningGateway, openai_client: openai.OpenAI, count_requests: Any
) -> None:
    gateway.sandbox.inject_fault("fail")
    with pytest.raises(openai.APIStatusError) as raised:
        openai_client.images.generate(prompt="a lighthouse", extra_body={"provider": {"only": ["runapi"]}})
    assert (raised.value.status_code, raised.value.code) == (424, "sellers_failed")
    assert count_requests() == 1


def test_client_with_short_timeout_retries_into_one_purchase(gateway: RunningGateway) -> None:
    """It times out after a second and retries: each retry attaches to the job of the first request."""
    gateway.sandbox.set_latency(1.5)
    before = len(gateway.sandbox.list_charges())
    with make_gateway_client(gateway, timeout=1.0, max_retries=5) as client:
        answer = client.images.generate(prompt=f"a lighthouse {uuid4()}")
    assert decode_image(answer.data[0].b64_json).size == (1024, 1024)  # type: ignore[index]
    assert len(gateway.sandbox.list_charges()) - before == 1


def test_client_retrying_after_a_timeout_gets_the_finished_job(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    before, prompt = len(gateway.sandbox.list_charges()), f"a lighthouse {uuid4()}"
    with make_gateway_client(gateway, timeout=1.0, max_retries=0) as client, pytest.raises(openai.APITimeoutError):
        client.images.generate(prompt=prompt)
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) - before == 1
    with make_gateway_client(gateway) as retrying_client:
        raw = retrying_client.images.with_raw_response.generate(
            prompt=prompt, extra_headers={"x-stainless-retry-count": "1"}
        )
    assert raw.headers["idempotent-replayed"] == "true"
    assert len(gateway.sandbox.list_charges()) - before == 1


def test_models_are_listed_and_retrieved(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == [MODEL]
    model: Any = openai_client.models.retrieve(MODEL)
    assert (model.object, model.owned_by, model.capabilities["edit"]) == ("model", "image-gateway", True)
    assert {price["min"] for price in model.prices if price["quality"] == "low"} == {"0.009"}


def test_alias_of_a_model_is_retrieved_with_a_warning(openai_client: openai.OpenAI) -> None:
    raw = openai_client.models.with_raw_response.retrieve("dall-e-3")
    assert raw.parse().id == MODEL
    assert "is an alias" in raw.headers["x-igw-warnings"]


@pytest.mark.parametrize("name", ["fal-ai/flux/dev", "no such", "sora-2"])
def test_unknown_model_raises_not_found_once(openai_client: openai.OpenAI, name: str) -> None:
    """The SDK sends the slashes of a name encoded."""
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.models.retrieve(name)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert f"'{name}'" in raised.value.message


def test_models_cannot_be_deleted(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        openai_client.models.delete(MODEL)
    assert (raised.value.status_code, raised.value.code) == (405, "method_not_allowed")


def test_plain_sdk_requests_to_jobs_raise_the_gateways_errors(openai_client: openai.OpenAI) -> None:
    job: Any = openai_client.post("/jobs", body={"prompt": "a lighthouse"}, cast_to=object)
    assert job["object"] == "job"
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.post("/jobs", body={"prompt": "a lighthouse", "n": 11}, cast_to=object)
    assert "at most 10" in raised.value.message
