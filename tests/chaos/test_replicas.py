"""Two replicas on one Redis: each reports the other's jobs and reclaims them after a crash."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import chaos_config, store_audit
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.store_setups import StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import wait_until

VENDORS = ("runapi", "runflow", "openai")
JOB_POLL_SECONDS = 120.0
# Longer than any wait of a test.
LONG_SECONDS = 600.0
CHILD = ChildSpec(change_timing(CHAOS_TIMINGS, clients={"job_poll_seconds": JOB_POLL_SECONDS}))


@pytest.fixture
def replicas(redis_setup: StoreSetup) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with ExitStack() as running:
        first, second = (
            running.enter_context(
                run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ, CHILD)
            )
            for name in ("1", "2")
        )
        yield first, second


def test_client_waiting_at_another_replica_is_notified_of_completion(
    replicas: tuple[GatewayProcess, GatewayProcess], sandbox: RunningSandbox
) -> None:
    """Replicas poll the store rarely, so only a notification can end the wait."""
    first, second = replicas
    sandbox.hold_orders()
    jobs = post_jobs(first, "runapi", 12)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_for_jobs, second, jobs, timeout_seconds=JOB_POLL_SECONDS / 2)
        wait_until(lambda: len(sandbox.list_requests("runapi", "submit")) == len(jobs), "all orders were sent")
        sandbox.release_orders()
        assert {job["status"] for job in waiting.result()} == {"completed"}


@pytest.mark.thorough
def test_other_replica_finishes_all_jobs_of_a_killed_one(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    first, second = replicas
    sandbox.hold_orders()
    recoverable_jobs = [job for seller in ("runapi", "runflow-runs") for job in post_jobs(first, seller, 20)]
    unrecoverable_jobs = post_jobs(first, "openai", 10)
    # The metric counts orders before they are sent, so the sandbox's records are counted.
    wait_until(
        lambda: sum(len(sandbox.list_requests(vendor, "submit")) for vendor in VENDORS) == 50,
        "all orders reached their sellers",
    )
    first.kill()
    sandbox.release_orders()
    final_jobs = wait_for_jobs(second, recoverable_jobs)
    assert {job["status"] for job in final_jobs} == {"completed"}
    assert [len(job["images"]) for job in final_jobs] == [1] * 40
    assert [len(job["attempts"]) for job in final_jobs] == [1] * 40
    # Their responses are lost with the killed replica, and an order with unknown outcome is not repeated.
    assert {job["error"]["code"] for job in wait_for_jobs(second, unrecoverable_jobs)} == {"outcome_unknown"}
    wait_until(second.is_idle, "all jobs are settled")
    assert second.read_metric("igw_jobs_reclaimed_total") == 50
    with second.make_client() as client:
        assert all(_has_image(client, job) for job in final_jobs)
    second.stop()
    store_audit.audit_store(redis_setup.make_store, sandbox, [*recoverable_jobs, *unrecoverable_jobs])
    assert len(sandbox.list_charges()) == 50


def _has_image(client: httpx.Client, job: dict[str, Any]) -> bool:
    answer = client.get(job["images"][0]["url"])
    return answer.status_code == 200 and answer.content.startswith(b"\x89PNG")


def test_stream_of_a_response_is_resumed_at_another_replica(
    replicas: tuple[GatewayProcess, GatewayProcess], sandbox: RunningSandbox
) -> None:
    """The images exist once, and can be edited at the other replica, too."""
    first, second = replicas
    sandbox.hold_orders()
    body = {"tools": [{"type": "image_generation"}], "provider": {"only": ["runapi"]}}
    request = body | {"input": "a lighthouse", "background": True, "stream": True}
    with first.make_client() as client, client.stream("POST", "/v1/responses", json=request) as stream:
        received = read_events_until(stream, "response.in_progress")
        wait_until(lambda: bool(sandbox.list_requests("runapi", "submit")), "the order reached its seller")
        first.kill()
    sandbox.release_orders()
    response_id, last_number = received[0]["response"]["id"], received[-1]["sequence_number"]
    path = f"/v1/responses/{response_id}?stream=true&starting_after={last_number}"
    with second.make_client() as client:
        with client.stream("GET", path) as stream:
            resumed = read_events_until(stream, "response.completed")
        assert [event["sequence_number"] for event in resumed] == list(range(last_number + 1, last_number + 7))
        assert len(sandbox.list_charges("runapi")) == 1
        edited = client.post("/v1/responses", json=body | {"input": "at night", "previous_response_id": response_id})
    assert edited.json()["output"][0]["action"] == "edit", edited.text[:500]
    assert len(sandbox.list_charges("runapi")) == 2


def read_events_until(stream: httpx.Response, last_type: str) -> list[dict[str, Any]]:
    """Reads the events up to the first one of this type."""
    events: list[dict[str, Any]] = []
    for line in stream.iter_lines():
        if line.startswith("data: "):
            events.append(json.loads(line.removeprefix("data: ")))
            if events[-1]["type"] == last_type:
                return events
    raise AssertionError(f"the stream ended without {last_type}: {[event['type'] for event in events]}")


@contextmanager
def run_replicas_with_callbacks_to_second(
    redis_setup: StoreSetup, config: Path
) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Runs two replicas. All callbacks go to the second one."""
    second = GatewayProcess(redis_setup.folder / "2", config)
    environ = {**redis_setup.environ, "IGW_PUBLIC_URL": f"http://127.0.0.1:{second.port}"}
    second.environ |= environ
    with run_replica(redis_setup.folder / "1", config, environ) as first:
        try:
            second.start()
            yield first, second
        finally:
            second.kill_if_running()


def test_callback_at_another_replica_reaches_the_job_worker(redis_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    """The expected latency is so long that without a callback the first poll comes too late."""
    sandbox.set_latency(1.0)
    with run_replicas_with_callbacks_to_second(
        redis_setup, chaos_config.write_config(redis_setup.config, sandbox.url, expected_seconds=LONG_SECONDS)
    ) as (first, second):
        final_jobs = wait_for_jobs(first, post_jobs(first, "runapi", 5))
        assert {job["status"] for job in final_jobs} == {"completed"}
        assert _count_accepted_callbacks(second) >= 5
    assert len(sandbox.list_charges("runapi")) == 5


def test_callback_at_another_replica_identifies_an_order_with_lost_response(
    redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """Only the callback names the seller's task, and no order may be repeated."""
    sandbox.set_latency(1.0)
    sandbox.inject_fault("reset_after", vendor="runapi", times=3)
    config = chaos_config.write_config(redis_setup.config, sandbox.url, expected_seconds=LONG_SECONDS)
    chaos_config.replace_text(config / "accounts.yaml", "replay: trusted", "replay: untrusted")
    with run_replicas_with_callbacks_to_second(redis_setup, config) as (first, second):
        final_jobs = wait_for_jobs(first, post_jobs(first, "runapi", 5))
        assert {job["status"] for job in final_jobs} == {"completed"}, [
            (job["error"], job["attempts"]) for job in final_jobs
        ]
        assert [len(job["attempts"]) for job in final_jobs] == [1] * 5
        assert _count_accepted_callbacks(second) >= 5
    assert len(sandbox.list_charges("runapi")) == 5


def _count_accepted_callbacks(gateway: GatewayProcess) -> int:
    lines = [line for line in gateway.get("/metrics").text.splitlines() if line.startswith("igw_http_requests_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if "/callbacks/" in line and 'status="2' in line)
