"""Creates batches with OpenAI's Python SDK, and reads their results."""

import json
from collections.abc import Iterable
from typing import Any

import openai
from openai.types import Batch

from tests.harness.wait import wait_until

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
PROMPT = "a lighthouse at dawn"
ENDED = ("completed", "failed", "expired", "cancelled")
Line = dict[str, Any]


def make_sdk_client(url: str, api_key: str) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", api_key=api_key, http_client=http)


def make_line(number: int, url: str = GENERATIONS, **body: Any) -> Line:
    return {
        "custom_id": f"request-{number}",
        "method": "POST",
        "url": url,
        "body": {"model": "gpt-image-2", "prompt": PROMPT, "quality": "low", **body},
    }


def encode_lines(lines: Iterable[Line]) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in lines)


def create_batch(
    client: openai.OpenAI, lines: Iterable[Line] | bytes, endpoint: Any = GENERATIONS, **options: Any
) -> Batch:
    """Creates a batch of the lines, or of a file with this content."""
    content = lines if isinstance(lines, bytes) else encode_lines(lines)
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)


def wait_for_end(client: openai.OpenAI, batch: Batch) -> Batch:
    ended = wait_until(lambda: _find_ended(client, batch.id), f"{batch.id} ends")
    assert ended is not None
    return ended


def _find_ended(client: openai.OpenAI, batch_id: str) -> Batch | None:
    batch = client.batches.retrieve(batch_id)
    return batch if batch.status in ENDED else None


def run_batch(client: openai.OpenAI, lines: Iterable[Line], endpoint: Any = GENERATIONS, **options: Any) -> Batch:
    return wait_for_end(client, create_batch(client, lines, endpoint, **options))


def count_results(batch: Batch) -> tuple[int, int, int]:
    """Returns the total, the completed and the failed lines."""
    counts = batch.request_counts
    assert counts is not None
    return counts.total, counts.completed, counts.failed


def read_results(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """Returns the lines of an output file by custom id. No custom id may occur twice."""
    assert file_id is not None
    lines = [json.loads(line) for line in client.files.content(file_id).content.splitlines()]
    results = {line["custom_id"]: line for line in lines}
    assert len(results) == len(lines)
    return results


def list_errors(batch: Batch) -> list[tuple[int | None, str | None]]:
    """Returns the line and the code of each error of a failed batch."""
    assert batch.status == "failed", batch
    return [(error.line, error.code) for error in (batch.errors.data if batch.errors else None) or []]
