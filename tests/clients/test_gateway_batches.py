"""OpenAI's Python SDK against the gateway: files and batches."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.clients.openai_sdk import MODEL, make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image
from tests.harness.wait import wait_until

ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with make_gateway_client(gateway) as client:
        yield client


def make_line(number: int, **body: Any) -> dict[str, Any]:
    return {
        "custom_id": f"request-{number}",
        "method": "POST",
        "url": "/v1/images/generations",
        "body": {"model": MODEL, "prompt": "a lighthouse", **body},
    }


def encode_lines(*lines: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(line) for line in lines).encode()


def create_batch(client: openai.OpenAI, content: bytes, **options: Any) -> Batch:
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h", **options
    )


def wait_for_end(client: openai.OpenAI, batch: Batch) -> Batch:
    def find_ended() -> Batch | None:
        current = client.batches.retrieve(batch.id)
        return current if current.status in ENDED else None

    ended = wait_until(find_ended, "the batch ends")
    assert ended is not None
    return ended


def read_results(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    lines = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    return {line["custom_id"]: line for line in lines}


def test_batch_delivers_each_line_under_its_custom_id(openai_client: openai.OpenAI) -> None:
    lines = [make_line(number, quality="low", n=1 + number % 2) for number in range(4)]
    batch = create_batch(openai_client, encode_lines(*lines), metadata={"campaign": "spring"})
    assert batch.status == "validating"
    ended = wait_for_end(openai_client, batch)
    assert ended.status == "completed", ended
    assert ended.request_counts is not None
    assert ended.request_counts.model_dump() == {"total": 4, "completed": 4, "failed": 0}
    assert ended.error_file_id is None
    assert ended.metadata == {"campaign": "spring"}
    results = read_results(openai_client, ended.output_file_id)
    assert results.keys() == {line["custom_id"] for line in lines}
    for line in lines:
        response = results[line["custom_id"]]["response"]
        assert response["status_code"] == 200
        images = [decode_image(image["b64_json"]) for image in response["body"]["data"]]
        assert len(images) == line["body"]["n"]
