"""Batches on each store: nothing is bought for an invalid file, and each line is bought once."""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.flow.flow_config import API_KEY, BATCH_BUDGET_KEY, OTHER_TEAM_KEY, RUNAPI, RUNFLOW_RUNS
from tests.flow.order_flow import OrderFlow
from tests.harness.batch_client import (
    EDITS,
    count_results,
    create_batch,
    list_errors,
    make_line,
    make_sdk_client,
    read_results,
    run_batch,
    wait_for_end,
)
from tests.harness.sample_images import make_image
from tests.harness.wait import wait_for_value, wait_until

MAX_LISTED_ERRORS = 10


@pytest.fixture
def client(flow: OrderFlow) -> Iterator[openai.OpenAI]:
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        yield client


def make_seller_line(number: int, seller: str = RUNAPI, **body: Any) -> dict[str, Any]:
    return make_line(number, provider={"only": [seller]}, **body)


def test_every_invalid_line_is_listed_and_nothing_is_bought(flow: OrderFlow, client: openai.OpenAI) -> None:
    lines: list[tuple[bytes, str | None]] = [
        (json.dumps(make_line(1)).encode(), None),
        (b"not JSON", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"", None),
        (json.dumps(make_line(6, EDITS)).encode(), "mismatched_url"),
        (json.dumps(make_line(7, model="unknown")).encode(), "model_not_found"),
        (json.dumps(make_line(1)).encode(), "duplicate_custom_id"),
        (json.dumps(make_line(9) | {"method": "GET"}).encode(), "invalid_method"),
        (json.dumps(make_line(10) | {"body": "text"}).encode(), "invalid_body"),
        (json.dumps(make_line(11) | {"custom_id": ""}).encode(), "invalid_custom_id"),
        (json.dumps(make_line(12) | {"extra": 1}).encode(), "unknown_parameter"),
        (json.dumps(make_line(13, prompt="")).encode(), "invalid_value"),
        (json.dumps(make_line(14, stream=True)).encode(), "invalid_value"),
        (json.dumps(make_line(15, size="17x17")).encode(), "invalid_value"),
        (json.dumps(make_line(16, max_price="0.001")).encode(), "no_offer"),
        (json.dumps(make_line(17, policy="unknown")).encode(), "invalid_value"),
        (b'{"custom_id": "a", "custom_id": "b"}', "duplicate_parameter"),
        (json.dumps(make_line(19)).encode() + b"\r", None),
        (json.dumps(make_line(20, image="cat.png")).encode(), "unsupported_parameter"),
    ]
    batch = create_batch(client, b"\n".join(line for line, _ in lines) + b"\n")
    ended = wait_for_end(client, batch)
    assert list_errors(ended) == [(number, code) for number, (_, code) in enumerate(lines, 1) if code]
    errors = [json.loads(line) for line in client.files.content(ended.error_file_id or "").text.splitlines()]
    assert [error["line"] for error in errors] == [line for line, _ in list_errors(ended)]
    listed = next(iter(client.batches.list()))
    assert len(listed.errors.data if listed.errors and listed.errors.data else ()) == MAX_LISTED_ERRORS
    assert flow.sandbox.list_charges() == []
    assert flow.sandbox.list_requests("runapi", "submit") == []


@pytest.mark.parametrize(("content", "code"), [(b" \n\n", "empty_file"), (b"\xef\xbb\xbf{}", "invalid_json")])
def test_file_without_a_valid_line_fails(client: openai.OpenAI, content: bytes, code: str) -> None:
    assert [error for _, error in list_errors(wait_for_end(client, create_batch(client, content)))] == [code]


def test_file_with_too_many_lines_fails_before_all_are_validated(client: openai.OpenAI) -> None:
    ended = wait_for_end(client, create_batch(client, b"1\n" * 50_001))
    assert list_errors(ended) == [(50_001, "too_many_lines")]


@pytest.mark.parametrize(
    "options",
    [
        {"extra_body": {"max_cost": "0.1"}},
        {"metadata": {"max_cost": "0.1"}},
        {"extra_body": {"max_cost": "5"}, "metadata": {"max_cost": "0.1"}},
        {"extra_body": {"max_cost": 0.1}, "metadata": {"max_cost": "5"}},
    ],
)
def test_batch_above_its_maximum_cost_is_refused_before_it_buys(
    flow: OrderFlow, client: openai.OpenAI, options: dict[str, Any]
) -> None:
    ended = run_batch(client, [make_seller_line(number) for number in range(2)], **options)
    assert list_errors(ended) == [(None, "max_cost_exceeded")]
    assert json.loads(ended.model_dump_json())["max_cost"] == 0.1
    assert flow.sandbox.list_charges() == []


def test_invalid_maximum_cost_is_refused_wherever_it_is(client: openai.OpenAI) -> None:
    for options in ({"metadata": {"max_cost": "a dollar"}}, {"extra_body": {"max_cost": "1,50"}}):
        with pytest.raises(openai.BadRequestError) as error:
            create_batch(client, [make_line(1)], **({"extra_body": {"max_cost": 1}} | options))
        assert error.value.param == ("metadata.max_cost" if "metadata" in options else "max_cost")


def test_lines_without_images_are_in_the_error_file(flow: OrderFlow, client: openai.OpenAI) -> None:
    flow.sandbox.inject_fault("refuse_content", vendor="runapi", times=1)
    ended = run_batch(client, [make_seller_line(1), make_seller_line(2, RUNFLOW_RUNS)])
    assert (ended.status, count_results(ended)) == ("completed", (2, 1, 1))
    assert read_results(client, ended.output_file_id).keys() == {"request-2"}
    (line,) = read_results(client, ended.error_file_id).values()
    assert line["custom_id"] == "request-1"
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"]["error"]["code"] == "moderation_blocked"


def test_cancelled_batch_drops_waiting_lines_and_delivers_running_orders(
    flow: OrderFlow, client: openai.OpenAI
) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    batch = create_batch(client, (make_seller_line(number) for number in range(100)))
    wait_until(lambda: len(flow.sandbox.list_requests("runapi", "submit")) >= 20, "orders run")
    cancelling = client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    assert client.batches.cancel(batch.id).status == "cancelling"
    wait_until(lambda: count_results(client.batches.retrieve(batch.id))[2] > 0, "waiting lines are dropped")
    flow.sandbox.release_orders(vendor="runapi")
    ended = wait_for_end(client, batch)
    total, completed, failed = count_results(ended)
    assert (ended.status, total, completed + failed) == ("cancelled", 100, 100)
    charges = flow.sandbox.list_charges("runapi")
    assert 20 <= len(charges) == completed < 100
    assert len(read_results(client, ended.output_file_id)) == completed
    errors = read_results(client, ended.error_file_id)
    assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_batch_orders_no_more_than_the_budget_of_its_team(flow: OrderFlow) -> None:
    with make_sdk_client(flow.gateway.url, BATCH_BUDGET_KEY) as client:
        ended = run_batch(client, [make_seller_line(number) for number in range(3)])
        assert (ended.status, count_results(ended)) == ("completed", (3, 1, 2))
        errors = read_results(client, ended.error_file_id).values()
    assert {line["response"]["body"]["error"]["code"] for line in errors} == {"insufficient_quota"}


def test_input_file_is_kept_while_its_batch_runs(flow: OrderFlow, client: openai.OpenAI) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    batch = create_batch(client, [make_seller_line(1)])
    with pytest.raises(openai.ConflictError):
        client.files.delete(batch.input_file_id)
    flow.sandbox.release_orders(vendor="runapi")
    wait_for_end(client, batch)
    assert client.files.delete(batch.input_file_id).deleted


def test_metrics_count_running_and_waiting_batches(flow: OrderFlow, client: openai.OpenAI) -> None:
    """A fifth batch of a team waits."""

    def read_load() -> list[float]:
        return [
            flow.gateway.read_metric(f"igw_{name}")
            for name in ("batches_running", "batches_waiting", "batch_lines_left")
        ]

    flow.sandbox.hold_orders(vendor="runapi")
    batches = [create_batch(client, [make_seller_line(number) for number in range(2)]) for _ in range(5)]
    wait_for_value(read_load, lambda load: load == [4, 1, 8], "four batches run, and one waits")
    flow.sandbox.release_orders(vendor="runapi")
    assert {wait_for_end(client, batch).status for batch in batches} == {"completed"}
    wait_for_value(read_load, lambda load: load == [0, 0, 0], "no batch is left")


def test_other_team_finds_neither_file_nor_batch(flow: OrderFlow, client: openai.OpenAI) -> None:
    ended = run_batch(client, [make_seller_line(1, RUNFLOW_RUNS)])
    with make_sdk_client(flow.gateway.url, OTHER_TEAM_KEY) as other:
        for file_id in (ended.input_file_id, ended.output_file_id or ""):
            with pytest.raises(openai.NotFoundError):
                other.files.content(file_id)
            with pytest.raises(openai.NotFoundError):
                other.batches.create(input_file_id=file_id, endpoint="/v1/images/generations", completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            other.batches.retrieve(ended.id)


def test_line_that_may_exceed_the_rest_of_the_maximum_cost_is_not_ordered(
    flow: OrderFlow, client: openai.OpenAI
) -> None:
    """The estimate has the price of the cheaper seller. Orders that fail over to the other seller cost more."""
    flow.sandbox.inject_fault("fail", vendor="runflow")
    lines = [make_line(number, policy=f"failover-{RUNFLOW_RUNS}") for number in range(4)]
    ended = run_batch(client, lines, extra_body={"max_cost": "0.13"})
    assert (ended.status, count_results(ended)) == ("completed", (4, 2, 2))
    assert len(flow.sandbox.list_charges("runapi")) == 2
    codes = {line["response"]["body"]["error"]["code"] for line in read_results(client, ended.error_file_id).values()}
    assert codes == {"max_cost_exceeded"}


def test_batch_with_a_damaged_image_is_refused_before_anything_is_bought(
    flow: OrderFlow, client: openai.OpenAI
) -> None:
    damaged = bytearray(make_image(64, 64))
    start = damaged.index(b"IDAT") + 4
    length = int.from_bytes(damaged[start - 8 : start - 4])
    damaged[start : start + length] = bytes(length)
    damaged[start + length : start + length + 4] = zlib.crc32(damaged[start - 4 : start + length]).to_bytes(4)
    images = [bytes(damaged), make_image(64, 64)]
    lines = [
        make_seller_line(number, url=EDITS, images=[{"image_url": encode_uri(image)}])
        for number, image in enumerate(images, 1)
    ]
    assert list_errors(run_batch(client, lines, EDITS)) == [(1, "invalid_image")]
    assert flow.count_orders(RUNAPI) == 0


def encode_uri(image: bytes) -> str:
    return f"data:image/png;base64,{b64encode(image).decode()}"
