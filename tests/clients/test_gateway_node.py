"""OpenAI's node SDK against the gateway: the same API, parsed by another client."""

import base64
import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from tests.harness.gateway_runner import RunningGateway
from tests.harness.node_sdk import PROGRAM_FOLDER
from tests.harness.sample_images import decode_image, make_image

RETRIED_PROMPT = "a lighthouse in a hurry"


@pytest.fixture(scope="module")
def node_results(node_program: str, gateway_process: RunningGateway) -> SimpleNamespace:
    """All results of the client, from one run, because node takes a while to start."""
    vendors = gateway_process.sandbox
    vendors.call_control_route("DELETE", "/faults")
    vendors.set_latency(1.5)
    before = len(vendors.list_charges())
    images = [base64.b64encode(make_image(96, 64, mode=mode)).decode() for mode in ("RGB", "RGBA")]
    command = [node_program, str(PROGRAM_FOLDER / "gateway.mjs"), f"{gateway_process.url}/v1", RETRIED_PROMPT, *images]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    vendors.set_latency(0.0)
    assert completed.returncode == 0, completed.stderr
    results = json.loads(completed.stdout)
    return SimpleNamespace(charges=len(vendors.list_charges()) - before, **results)


def test_generated_images_have_the_reported_size(node_results: Any) -> None:
    images = [decode_image(image["b64_json"]) for image in node_results.generated["data"]]
    assert [f"{decoded.size[0]}x{decoded.size[1]}" for decoded in images] == [node_results.generated["size"]] * 2
    assert node_results.headers["x-igw-seller"] == "runapi"
    assert node_results.headers["x-igw-cost-usd"] == "0.20"
    assert {"x-igw-job-id", "x-igw-attempts", "x-igw-overhead-ms"} <= node_results.headers.keys()


def test_sdk_retries_attach_to_the_running_job(node_results: Any) -> None:
    assert decode_image(node_results.hasty["data"][0]["b64_json"]).size == (1024, 1024)
    assert decode_image(node_results.hasty_edit["data"][0]["b64_json"]).width
    message = "two images, three of edits, two that were retried several times, and two streams"
    assert node_results.charges == 9, message


def test_streams_have_one_event_for_each_image(node_results: Any) -> None:
    assert [event["type"] for event in node_results.streamed] == ["image_generation.completed"] * 2
    assert {decode_image(event["b64_json"]).size for event in node_results.streamed} == {(1024, 1024)}
    assert all(event["usage"]["cost"] > 0 for event in node_results.streamed)
    assert [event["type"] for event in node_results.streamed_edit] == ["image_edit.completed"]


def test_models_are_listed_and_retrieved(node_results: Any) -> None:
    assert [model["id"] for model in node_results.models] == ["gpt-image-2"]
    assert node_results.aliased_model["id"] == "gpt-image-2"
    assert node_results.aliased_model["prices"]


def test_edits_with_one_and_many_images_are_delivered(node_results: Any) -> None:
    for edited, count in ((node_results.edited, 1), (node_results.edited_list, 2)):
        sizes = [decode_image(image["b64_json"]).size for image in edited["data"]]
        assert [f"{width}x{height}" for width, height in sizes] == [edited["size"]] * count
        assert abs(sizes[0][0] / sizes[0][1] - 3 / 2) < 0.05


@pytest.mark.parametrize(
    ("name", "kind", "code", "words"),
    [
        ("wrong_size", "BadRequestError", "invalid_value", "multiples of 16"),
        ("wrong_stream", "BadRequestError", "invalid_value", "multiples of 16"),
        ("unknown_model", "NotFoundError", "model_not_found", "gpt-image-2"),
        ("wrong_field", "BadRequestError", "unknown_parameter", "did you mean 'prompt'"),
        ("wrong_model", "NotFoundError", "model_not_found", "gpt-image-2"),
        ("wrong_key", "AuthenticationError", "invalid_api_key", "Invalid API key"),
        ("edited_nothing", "BadRequestError", "empty_image_file", "an empty file"),
        ("too_cheap", "BadRequestError", "no_offer", "above $0.001"),
    ],
)
def test_invalid_requests_raise_sdk_exceptions(node_results: Any, name: str, kind: str, code: str, words: str) -> None:
    error = getattr(node_results, name)
    assert (error["kind"], error["code"]) == (kind, code)
    assert words in error["message"]
    assert error["requestID"].startswith("req_")
