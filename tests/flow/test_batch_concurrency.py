"""The lines of a batch hold their places among the concurrent jobs of their team, also after kill -9."""

from collections.abc import Iterator

import openai
import pytest

from tests.flow.flow_config import API_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import make_fixture_on_each_store
from tests.flow.order_flow import OrderFlow
from tests.harness.batch_client import count_results, create_batch, make_line, make_sdk_client, wait_for_end
from tests.harness.timings import FAST_TIMINGS
from tests.harness.wait import wait_until

CONCURRENT_JOBS, BATCH_JOBS, LEASE_SECONDS = 4, 2, 5
SETUP = GatewaySetup(
    timing=FAST_TIMINGS,
    team_limits={"concurrent_jobs": CONCURRENT_JOBS},
    job_settings={"lease_seconds": LEASE_SECONDS},
)
gateway_and_store = make_fixture_on_each_store(SETUP)


@pytest.fixture
def client(flow: OrderFlow) -> Iterator[openai.OpenAI]:
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        yield client


def count_free_places(client: openai.OpenAI) -> int:
    headers = client.models.with_raw_response.list().headers
    return int(headers["ratelimit"].removeprefix('"team-jobs";r='))


def list_batch_jobs(flow: OrderFlow, batch_id: str) -> list[str]:
    headers = {"authorization": f"Bearer {API_KEY}"}
    jobs = flow.gateway.http.get("/v1/jobs", params={"limit": 100}, headers=headers).json()["data"]
    return [job["id"] for job in jobs if job["batch"] == batch_id]


def find_accepted_job(flow: OrderFlow, number: int) -> str | None:
    body = {"prompt": f"lighthouse {number}", "quality": "low", "provider": {"only": [RUNAPI]}}
    answer = flow.gateway.post_job(body, prefer="wait=0")
    return None if answer.status_code == 429 else answer.raise_for_status().json()["id"]


@pytest.mark.thorough
def test_restarted_batch_leaves_places_to_interactive_requests(flow: OrderFlow, client: openai.OpenAI) -> None:
    """For some seconds, the last counts of the killed process count, too."""
    flow.sandbox.hold_orders(vendor="runapi")
    batch = create_batch(client, (make_line(number, provider={"only": [RUNAPI]}) for number in range(6)))
    wait_until(lambda: flow.count_orders(RUNAPI) == BATCH_JOBS, "the first lines are ordered")
    jobs = list_batch_jobs(flow, batch.id)
    assert len(jobs) == BATCH_JOBS
    flow.gateway.kill()
    flow.gateway.start()
    interactive = [
        wait_until(lambda number=number: find_accepted_job(flow, number), "the interactive request is accepted")
        for number in range(CONCURRENT_JOBS - BATCH_JOBS)
    ]
    wait_until(lambda: flow.gateway.read_metric("igw_batches_running") == 1, "the batch is resumed")
    wait_until(lambda: count_free_places(client) == 0, "the resumed lines hold their places")
    assert list_batch_jobs(flow, batch.id) == jobs
    flow.sandbox.release_orders(vendor="runapi")
    assert {flow.gateway.get_job(job_id or "")["status"] for job_id in interactive} == {"completed"}
    ended = wait_for_end(client, batch)
    assert (ended.status, count_results(ended)) == ("completed", (6, 6, 0))
    assert len(flow.sandbox.list_charges("runapi")) == 6 + len(interactive)
