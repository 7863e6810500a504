"""Batches use a share of the concurrent jobs of their API key, and leave the rest to interactive requests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import openai
import pytest
from openai.types import Batch

from tests.api.error_responses import JOBS_PATH
from tests.api.job_requests import BODY
from tests.api.limited_clients import expect_rate_limit
from tests.harness.batch_client import count_results, create_batch, make_line, make_sdk_client, wait_for_end
from tests.harness.gateway_runner import RunningGateway, make_client
from tests.harness.key_admin import create_key
from tests.harness.wait import wait_until


@contextmanager
def open_clients(gateway: RunningGateway, concurrent_jobs: int) -> Iterator[tuple[openai.OpenAI, httpx.Client]]:
    """Opens two clients with one limited key, for batches and for interactive requests. Their orders run until
    `release_orders`."""
    key = create_key(gateway, limits={"concurrent_jobs": concurrent_jobs})["key"]
    with ExitStack() as exit_stack:
        exit_stack.callback(gateway.sandbox.release_orders)
        gateway.sandbox.hold_orders()
        yield (
            exit_stack.enter_context(make_sdk_client(gateway.url, key)),
            exit_stack.enter_context(make_client(gateway.url, key)),
        )


def list_batch_jobs(client: httpx.Client, *batches: Batch) -> list[str]:
    """Lists the states of the jobs that these batches have so far."""
    jobs = client.get(JOBS_PATH, params={"limit": 100}).json()["data"]
    return [job["status"] for job in jobs if job["batch"] in [batch.id for batch in batches]]


def order_first_line(sdk: openai.OpenAI, client: httpx.Client, line_count: int) -> Batch:
    """Creates a batch, and waits until its first line is ordered. The limit has room for one line."""
    batch = create_batch(sdk, [make_line(number) for number in range(line_count)])
    wait_until(lambda: list_batch_jobs(client, batch), "the first line is ordered")
    return batch


@pytest.mark.parametrize(("limit", "most_batch_jobs"), [(4, 2), (2, 1)])
def test_batches_leave_concurrent_jobs_to_interactive_requests(
    gateway: RunningGateway, limit: int, most_batch_jobs: int
) -> None:
    """Two batches of one key share its places."""
    with open_clients(gateway, limit) as (sdk, client):
        batches = [create_batch(sdk, [make_line(number) for number in range(3)]) for _ in range(2)]
        wait_until(lambda: len(list_batch_jobs(client, *batches)) >= most_batch_jobs, "the batches order")
        for remaining in reversed(range(limit - most_batch_jobs)):
            answer = client.post(JOBS_PATH, json=BODY)
            assert answer.status_code == 202, answer.text
            assert answer.headers["ratelimit"] == f'"key-jobs";r={remaining}'
        expect_rate_limit(client.post(JOBS_PATH, json=BODY))
        assert len(list_batch_jobs(client, *batches)) == most_batch_jobs
        gateway.sandbox.release_orders()
        for batch in batches:
            ended = wait_for_end(sdk, batch)
            assert (ended.status, count_results(ended)) == ("completed", (3, 3, 0))


def test_batch_and_interactive_requests_take_turns_at_a_limit_of_one(gateway: RunningGateway) -> None:
    """After a refused interactive request, the batch leaves it the place of the line that runs."""
    with open_clients(gateway, 1) as (sdk, client):
        batch = order_first_line(sdk, client, 3)
        expect_rate_limit(client.post(JOBS_PATH, json=BODY))
        gateway.sandbox.release_orders()
        wait_until(lambda: list_batch_jobs(client, batch) == ["completed"], "the first line ends")
        gateway.sandbox.hold_orders()
        wait_until(lambda: client.post(JOBS_PATH, json=BODY).status_code == 202, "the interactive request is accepted")
        assert len(list_batch_jobs(client, batch)) == 1
        gateway.sandbox.release_orders()
        ended = wait_for_end(sdk, batch)
        assert (ended.status, count_results(ended)) == ("completed", (3, 3, 0))


def test_cancelled_batch_drops_the_lines_that_wait_for_a_place(gateway: RunningGateway) -> None:
    with open_clients(gateway, 2) as (sdk, client):
        batch = order_first_line(sdk, client, 5)
        sdk.batches.cancel(batch.id)
        wait_until(lambda: count_results(sdk.batches.retrieve(batch.id))[2] == 4, "waiting lines are dropped")
        gateway.sandbox.release_orders()
        assert wait_for_end(sdk, batch).status == "cancelled"
        assert client.post(JOBS_PATH, json=BODY).headers["ratelimit"] == '"key-jobs";r=1'
