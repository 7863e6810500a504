"""OpenAI's Python SDK against the gateway: files and batches."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.clients.openai_sdk import MODEL, make_gateway_client
from tests.harness.batch_client import (
    EDITS,
    count_results,
    create_batch,
    encode_lines,
    make_line,
    read_results,
    run_batch,
    wait_for_end,
)
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, encode_data_uri, make_image


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with make_gateway_client(gateway) as client:
        yield client


def test_batch_delivers_each_line_under_its_custom_id(openai_client: openai.OpenAI) -> None:
    lines = [make_line(number, n=1 + number % 2) for number in range(4)]
    batch = create_batch(openai_client, lines, metadata={"campaign": "spring"})
    assert batch.status == "validating"
    ended = wait_for_end(openai_client, batch)
    assert (ended.status, count_results(ended), ended.error_file_id) == ("completed", (4, 4, 0), None)
    assert ended.metadata == {"campaign": "spring"}
    assert ended.in_progress_at is not None
    assert ended.completed_at is not None
    assert ended.in_progress_at <= ended.completed_at
    results = read_results(openai_client, ended.output_file_id)
    assert results.keys() == {line["custom_id"] for line in lines}
    for line in lines:
        response = results[line["custom_id"]]["response"]
        assert response["status_code"] == 200
        images = [decode_image(image["b64_json"]) for image in response["body"]["data"]]
        assert len(images) == line["body"]["n"]


def test_batch_of_edits_accepts_inline_images_and_a_mask(openai_client: openai.OpenAI) -> None:
    image, mask = make_image(512, 512), make_image(512, 512, mode="RGBA")
    fields = {"images": [{"image_url": encode_data_uri(image)}], "size": "1024x1024"}
    lines = [make_line(1, EDITS, **fields), make_line(2, EDITS, **fields, mask={"image_url": encode_data_uri(mask)})]
    ended = run_batch(openai_client, lines, EDITS)
    assert (ended.status, count_results(ended)) == ("completed", (2, 2, 0)), ended
    for line in read_results(openai_client, ended.output_file_id).values():
        assert decode_image(line["response"]["body"]["data"][0]["b64_json"]).size == (1024, 1024)


def test_line_with_urls_has_links_that_work_without_a_key(
    gateway: RunningGateway, openai_client: openai.OpenAI
) -> None:
    ended = run_batch(openai_client, [make_line(1, response_format="url")])
    (line,) = read_results(openai_client, ended.output_file_id).values()
    (image,) = line["response"]["body"]["data"]
    assert image.keys() == {"url"}
    assert gateway.http.get(image["url"], headers={"authorization": ""}).status_code == 200


def test_files_are_listed_described_and_deleted(openai_client: openai.OpenAI) -> None:
    content = encode_lines([make_line(1)])
    expiry = {"anchor": "created_at", "seconds": 3_600}
    file = openai_client.files.create(file=("my requests.jsonl", content), purpose="batch", expires_after=expiry)  # type: ignore[arg-type]
    assert (file.bytes, file.filename, file.purpose) == (len(content), "my requests.jsonl", "batch")
    assert file.expires_at == file.created_at + 3_600
    assert openai_client.files.retrieve(file.id) == file
    assert openai_client.files.content(file.id).content == content
    assert next(iter(openai_client.files.list(purpose="batch"))).id == file.id
    assert openai_client.files.delete(file.id).deleted
    for call in (openai_client.files.retrieve, openai_client.files.content, openai_client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)


def test_lists_have_pages(openai_client: openai.OpenAI) -> None:
    ids = [create_batch(openai_client, b"not JSON").id for _ in range(3)][::-1]
    listed = [batch.id for batch in openai_client.batches.list(limit=2)]
    assert listed[:3] == ids
    assert len(listed) == len(set(listed))
    files = [file.id for file in openai_client.files.list(limit=2)]
    assert len(files) == len(set(files)) >= 3


def test_estimate_cost_and_key_are_extra_fields(openai_client: openai.OpenAI) -> None:
    ended = run_batch(openai_client, [make_line(number) for number in range(3)], extra_body={"max_cost": "5.00"})
    fields = json.loads(ended.model_dump_json())
    assert ended.status == "completed"
    assert 0 < fields["cost"] <= fields["estimate"]["cost"] <= fields["estimate"]["max_cost"] <= fields["max_cost"]
    assert fields["key"]


def test_model_of_a_line_may_be_an_alias(openai_client: openai.OpenAI) -> None:
    assert run_batch(openai_client, [make_line(1, model=None), make_line(2, model=MODEL)]).status == "completed"
