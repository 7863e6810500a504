"""OpenAI's node SDK against the simulated OpenAI: the same API, parsed by another client."""

import base64
import json
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients.openai_sdk import compute_cost_micros
from tests.harness import sandbox_runner
from tests.harness.node_sdk import PROGRAM_FOLDER
from tests.harness.sample_images import decode_image, make_image


@pytest.fixture(scope="module")
def node_results(node_program: str) -> Iterator[SimpleNamespace]:
    """All results of the client and their charges, from one run, because node takes a while to start."""
    input_images = {
        "first": make_image(900, 300),
        "second": make_image(64, 64, "JPEG"),
        "mask": make_image(900, 300, mode="RGBA"),
    }
    program_input = json.dumps({name: base64.b64encode(data).decode() for name, data in input_images.items()})
    with sandbox_runner.run_sandbox() as sandbox:
        sandbox.reset()
        command = [node_program, str(PROGRAM_FOLDER / "client.mjs"), f"{sandbox.url}/openai/v1"]
        completed = subprocess.run(
            command, input=program_input, capture_output=True, text=True, timeout=60, check=False
        )
        assert completed.returncode == 0, completed.stderr
        results = json.loads(completed.stdout, object_hook=lambda members: SimpleNamespace(**members))
        yield SimpleNamespace(charges=sandbox.list_charges("openai"), **vars(results))


def test_generated_images_have_the_requested_size(node_results: Any) -> None:
    assert [decode_image(image.b64_json).size for image in node_results.generate.data] == [(1536, 864)] * 2
    assert (node_results.generate.size, node_results.generate.quality) == ("1536x864", "low")
    assert node_results.request_id == node_results.charges[0]["id"]


def test_edit_with_two_images_and_a_mask_is_delivered(node_results: Any) -> None:
    image = decode_image(node_results.edit.data[0].b64_json)
    assert (image.size, image.format) == ((1536, 1024), "WEBP")
    assert node_results.edit.usage.input_tokens_details.image_tokens == 3 * 256


def test_streams_deliver_partial_and_completed_images(node_results: Any) -> None:
    partial, completed = "image_generation.partial_image", "image_generation.completed"
    assert [event.type for event in node_results.stream] == [partial, partial, completed]
    assert {decode_image(event.b64_json).size for event in node_results.stream} == {(1024, 1024)}
    assert [event.type for event in node_results.streamed_edit] == ["image_edit.completed"]


def test_invoice_matches_the_reported_usage(node_results: Any) -> None:
    answers = [node_results.generate, node_results.edit, node_results.stream[-1], node_results.streamed_edit[-1]]
    assert [line["usd_micros"] for line in node_results.charges] == [
        compute_cost_micros(answer.usage) for answer in answers
    ]


def test_models_are_listed(node_results: Any) -> None:
    assert "gpt-image-2" in node_results.models


@pytest.mark.parametrize(
    ("name", "kind", "status", "code"),
    [
        ("wrong_size", "BadRequestError", 400, "invalid_value"),
        ("wrong_model", "NotFoundError", 404, "model_not_found"),
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key"),
    ],
)
def test_invalid_requests_raise_sdk_exceptions(node_results: Any, name: str, kind: str, status: int, code: str) -> None:
    error = getattr(node_results, name)
    assert (error.kind, error.status, error.code) == (kind, status, code)
    assert error.requestID


def test_package_lock_names_no_registry() -> None:
    """An installation uses the registry that the machine is configured for."""
    assert "resolved" not in (PROGRAM_FOLDER / "package-lock.json").read_text()
