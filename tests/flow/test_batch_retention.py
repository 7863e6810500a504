"""Batches where jobs are kept for the shortest time that can be configured: no result is lost while a batch runs.

A day of the store has 100 seconds here, so that jobs are deleted one second after they are settled.
"""

from collections.abc import Iterator

import openai
import pytest

from tests.flow.flow_config import API_KEY, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_fixture_on_each_store
from tests.flow.order_flow import OrderFlow
from tests.harness import batch_client
from tests.harness.child_spec import Hook
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

SETUP = GatewaySetup(
    timing=change_timing(FAST_TIMINGS, maintenance={"cleanup_interval_seconds": 0.2}),
    retention={"jobs_days": 0.01},
    hooks=(Hook("tests.flow.short_retention:shorten_days", {"day_seconds": 100.0}),),
)
FIRST_LINES = 3

gateway_and_store = make_fixture_on_each_store(SETUP)


@pytest.fixture
def client(flow: OrderFlow) -> Iterator[openai.OpenAI]:
    with batch_client.make_sdk_client(flow.gateway.url, API_KEY) as client:
        yield client


@pytest.mark.thorough
def test_results_outlive_their_jobs_while_the_batch_runs(flow: OrderFlow, client: openai.OpenAI) -> None:
    """The jobs of the first lines are deleted while the order of the last line runs."""
    flow.sandbox.hold_orders(vendor="runapi")
    lines = [batch_client.make_line(number, provider={"only": [RUNFLOW_RUNS]}) for number in range(FIRST_LINES)]
    batch = batch_client.create_batch(
        client, [*lines, batch_client.make_line(FIRST_LINES, provider={"only": [RUNAPI]})]
    )
    wait_until(
        lambda: batch_client.count_results(client.batches.retrieve(batch.id))[1] == FIRST_LINES,
        "the first lines are done",
    )
    headers = {"authorization": f"Bearer {API_KEY}"}

    def count_kept_jobs() -> int:
        return len(flow.gateway.http.get("/v1/jobs", headers=headers).raise_for_status().json()["data"])

    wait_until(lambda: count_kept_jobs() == 1, "the jobs of the first lines are deleted")
    flow.sandbox.release_orders(vendor="runapi")
    ended = batch_client.wait_for_end(client, batch)
    assert (ended.status, batch_client.count_results(ended)) == ("completed", (FIRST_LINES + 1, FIRST_LINES + 1, 0))
    wait_until(lambda: count_kept_jobs() == 0, "all jobs are deleted")
    results = batch_client.read_results(client, ended.output_file_id)
    assert len(results) == FIRST_LINES + 1
    assert all(line["response"]["body"]["data"][0]["b64_json"] for line in results.values())
    assert client.files.content(ended.input_file_id).text


def test_urls_that_would_be_dead_before_the_end_are_refused(flow: OrderFlow, client: openai.OpenAI) -> None:
    ended = batch_client.run_batch(
        client, [batch_client.make_line(1), batch_client.make_line(2, response_format="url")]
    )
    assert batch_client.list_errors(ended) == [(2, "invalid_value")]
    [error] = (ended.errors.data if ended.errors else None) or []
    assert error.param == "response_format"
    assert "after 0.01 days" in (error.message or "")
    assert flow.sandbox.list_charges() == []
