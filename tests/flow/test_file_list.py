"""`GET /v1/files` and `GET /v1/batches` on both stores: order, and pages whose last entry is deleted meanwhile."""

from collections.abc import Iterator

import openai
import pytest

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY
from tests.flow.order_flow import OrderFlow
from tests.harness.batch_client import make_sdk_client, run_batch

UNKNOWN_ID = "file-00" + "a" * 26


@pytest.fixture
def client(flow: OrderFlow) -> Iterator[openai.OpenAI]:
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        for file in client.files.list():
            client.files.delete(file.id)
        yield client


def upload_files(client: openai.OpenAI, count: int) -> list[str]:
    return [client.files.create(file=(f"{number}.jsonl", b"{}"), purpose="batch").id for number in range(count)]


def test_loop_over_all_files_may_delete_each(client: openai.OpenAI) -> None:
    for options in ({}, {"order": "asc"}):
        ids = upload_files(client, 5)
        deleted = [file.id for file in client.files.list(limit=2, **options) if client.files.delete(file.id)]  # type: ignore[arg-type]
        assert deleted == (ids if options else ids[::-1])
        assert list(client.files.list()) == []


def test_files_and_batches_are_listed_in_both_orders(client: openai.OpenAI) -> None:
    ids = upload_files(client, 3)
    assert [file.id for file in client.files.list(limit=1)] == ids[::-1]
    assert [file.id for file in client.files.list(limit=1, order="desc")] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids
    batch_ids = [run_batch(client, []).id for _ in range(2)]
    assert [batch.id for batch in client.batches.list(extra_query={"order": "asc"})][-2:] == batch_ids
    with pytest.raises(openai.BadRequestError, match="must be desc, newest first, or asc"):
        client.files.list(order="random")  # type: ignore[arg-type]


def test_another_teams_deleted_file_is_an_unknown_cursor(flow: OrderFlow, client: openai.OpenAI) -> None:
    deleted, existing = upload_files(client, 2)
    client.files.delete(deleted)
    assert [file.id for file in client.files.list(after=existing)] == []
    assert next(iter(client.files.list(after=deleted, order="asc"))).id == existing
    with make_sdk_client(flow.gateway.url, OTHER_TEAM_KEY) as other:
        errors = [find_error(other, cursor) for cursor in (deleted, existing, UNKNOWN_ID, f"deleted_{deleted}", "x")]
    assert errors == [find_error(client, UNKNOWN_ID)] * len(errors)
    assert find_error(client, f"deleted_{deleted}") == errors[0]
    with pytest.raises(openai.BadRequestError, match="no such batch"):
        client.batches.list(after=deleted)
    for call in (client.files.retrieve, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(f"deleted_{deleted}")


def find_error(client: openai.OpenAI, cursor: str) -> tuple[str | None, str | None, str]:
    with pytest.raises(openai.BadRequestError) as error:
        client.files.list(after=cursor)
    return error.value.code, error.value.param, error.value.body["message"]  # type: ignore[index]
