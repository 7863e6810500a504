"""Files of batches where no prompts are kept, and images for two days, on each store."""

from collections.abc import Iterator

import openai
import pytest

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import make_fixture_on_each_store
from tests.flow.order_flow import OrderFlow
from tests.harness import batch_client
from tests.harness.wait import wait_until

DAY_SECONDS = 86_400
SECRET = "a heron that must not be kept"
HOUR_SECONDS = 3_600

gateway_and_store = make_fixture_on_each_store(GatewaySetup(team_retention={"images_days": 2, "prompts_days": 0}))


@pytest.fixture
def client(flow: OrderFlow) -> Iterator[openai.OpenAI]:
    with batch_client.make_sdk_client(flow.gateway.url, API_KEY) as client:
        yield client


def make_secret_line(number: int) -> batch_client.Line:
    return batch_client.make_line(number, provider={"only": [RUNAPI]}, prompt=SECRET)


def test_input_file_is_gone_at_the_end_and_the_output_expires_with_images(
    flow: OrderFlow, client: openai.OpenAI
) -> None:
    """While the batch runs, its file is there, and shown as kept until after its window."""
    flow.sandbox.hold_orders(vendor="runapi")
    batch = batch_client.create_batch(client, [make_secret_line(1)])
    wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the line is ordered")
    running = client.files.retrieve(batch.input_file_id)
    assert batch.expires_at is not None
    assert running.expires_at == batch.expires_at + DAY_SECONDS
    assert SECRET in client.files.content(batch.input_file_id).text
    flow.sandbox.release_orders(vendor="runapi")
    ended = batch_client.wait_for_end(client, batch)
    assert (ended.status, batch_client.count_results(ended)) == ("completed", (1, 1, 0))
    for read in (client.files.retrieve, client.files.content):
        with pytest.raises(openai.NotFoundError):
            read(batch.input_file_id)
    assert SECRET not in flow.dump_store()
    folder = flow.gateway.folder.parent
    assert [path for path in folder.rglob(f"*{batch.input_file_id}*") if path.is_file()] == []
    assert ended.output_file_id is not None
    output = client.files.retrieve(ended.output_file_id)
    assert ended.completed_at is not None
    assert output.expires_at is not None
    assert abs(output.expires_at - ended.completed_at - 2 * DAY_SECONDS) <= 2
    results = batch_client.read_results(client, ended.output_file_id)
    assert results["request-1"]["response"]["body"]["data"][0]["b64_json"]


def test_input_file_of_a_failed_batch_is_gone_and_its_errors_are_not(client: openai.OpenAI) -> None:
    lines = [batch_client.make_line(number, prompt="", size="17x17") for number in range(12)]
    ended = batch_client.run_batch(client, lines)
    assert len(batch_client.list_errors(ended)) >= 12
    with pytest.raises(openai.NotFoundError):
        client.files.content(ended.input_file_id)


def test_file_without_a_batch_is_kept_for_a_day(client: openai.OpenAI) -> None:
    content = batch_client.encode_lines([make_secret_line(1)])
    file = client.files.create(file=("a.jsonl", content), purpose="batch")
    assert file.expires_at == file.created_at + DAY_SECONDS
    shorter = client.files.create(
        file=("b.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": HOUR_SECONDS}
    )
    assert shorter.expires_at == shorter.created_at + HOUR_SECONDS


def test_shorter_expiry_of_the_output_holds(flow: OrderFlow, client: openai.OpenAI) -> None:
    ended = batch_client.run_batch(
        client,
        [make_secret_line(1)],
        extra_body={"output_expires_after": {"anchor": "created_at", "seconds": HOUR_SECONDS}},
    )
    assert ended.output_file_id is not None
    output = client.files.retrieve(ended.output_file_id)
    assert ended.completed_at is not None
    assert output.expires_at is not None
    assert abs(output.expires_at - ended.completed_at - HOUR_SECONDS) <= 2


def test_other_team_keeps_its_files_for_thirty_days(flow: OrderFlow) -> None:
    with batch_client.make_sdk_client(flow.gateway.url, OTHER_TEAM_KEY) as client:
        ended = batch_client.run_batch(client, [make_secret_line(1)])
        files = [client.files.retrieve(file_id) for file_id in (ended.input_file_id, str(ended.output_file_id))]
    for file in files:
        assert file.expires_at is not None
        assert abs(file.expires_at - file.created_at - 30 * DAY_SECONDS) <= 2
