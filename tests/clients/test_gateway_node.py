"""OpenAI's node SDK against the gateway itself: the same wire, read by another client."""

import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients.pictures import opened
from tests.clients.test_openai_node import HERE, node  # noqa: F401  a fixture
from tests.serving import Serving

HASTY = "a lighthouse in a hurry"


@pytest.fixture(scope="module")
def bought(node: str, gateway_process: Serving) -> SimpleNamespace:  # noqa: F811  the fixture above
    """All that the client bought and read: one run, because node takes a while to start."""
    vendors = gateway_process.vendors
    vendors.control("DELETE", "/faults")
    vendors.latency(1.2)
    before = len(vendors.charges())
    command = [node, str(HERE / "gateway.mjs"), f"{gateway_process.url}/v1", HASTY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    vendors.latency(0.0)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    return SimpleNamespace(charges=len(vendors.charges()) - before, **results)


def test_generate(bought: Any) -> None:
    pictures = [opened(image["b64_json"]) for image in bought.generated["data"]]
    assert [f"{one.size[0]}x{one.size[1]}" for one in pictures] == [bought.generated["size"]] * 2
    assert bought.headers["x-igw-seller"] == "runapi"
    assert bought.headers["x-igw-cost-usd"] == "0.20"
    assert {"x-igw-job-id", "x-igw-attempts", "x-igw-overhead-ms"} <= bought.headers.keys()


def test_retries_attach_to_the_job_that_runs(bought: Any) -> None:
    assert opened(bought.hasty["data"][0]["b64_json"]).size == (1024, 1024)
    assert bought.charges == 3, "two pictures, and one that was asked for again and again"


@pytest.mark.parametrize(
    ("name", "kind", "code", "words"),
    [
        ("wrong_size", "BadRequestError", "invalid_value", "multiples of 16"),
        ("wrong_field", "BadRequestError", "unknown_parameter", "did you mean 'prompt'"),
        ("wrong_model", "NotFoundError", "model_not_found", "gpt-image-2"),
        ("wrong_key", "AuthenticationError", "invalid_api_key", "not known here"),
        ("too_cheap", "BadRequestError", "no_offer", "above $0.001"),
    ],
)
def test_errors(bought: Any, name: str, kind: str, code: str, words: str) -> None:
    error = getattr(bought, name)
    assert (error["kind"], error["code"]) == (kind, code)
    assert words in error["message"]
    assert error["requestID"].startswith("req_")
